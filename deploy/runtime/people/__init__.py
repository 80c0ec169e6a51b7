"""Who is in view: followed, boxed, smoothed. Knows no network and no camera."""
