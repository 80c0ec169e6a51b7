"""From a checkpoint to keypoints on a device."""
