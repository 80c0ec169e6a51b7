"""The loop of a camera: options, threads, and what comes out."""
