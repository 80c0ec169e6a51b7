"""TensorRT: engines built, stamped, opened and run."""
