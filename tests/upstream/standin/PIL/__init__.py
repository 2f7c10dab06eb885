"""Pictures without Pillow."""
