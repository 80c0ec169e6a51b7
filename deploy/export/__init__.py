"""From checkpoints to the files that a target runs."""
