"""What runs on a device: sessions, and nothing that needs a training framework."""
