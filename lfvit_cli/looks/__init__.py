"""What a network saw in a photo, and decided."""
