"""From annotated images to a checkpoint."""
