"""LF-ViT and other adaptive vision transformers: cost, speed and early exits, measured on real photos."""
