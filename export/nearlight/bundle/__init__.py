"""The bundle: what a model is on disk, and how an image or a text becomes its input."""
