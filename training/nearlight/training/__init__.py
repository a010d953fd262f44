"""Contrastive training of image and image-text encoders."""
