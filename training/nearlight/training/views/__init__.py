"""Random views of images, made in batches on the device they are on, each image with its own draw."""

from nearlight.training.views.make import Share as Share
from nearlight.training.views.make import make_views as make_views

__all__ = ["Share", "make_views"]
