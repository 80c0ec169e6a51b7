"""From a checkpoint to smaller and faster checkpoints."""
