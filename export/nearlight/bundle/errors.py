"""Every error of the bundle room, as one tree.

    BundleError                 a model folder cannot be used
    ├── NotABundle              the folder is missing or is not a bundle at all
    ├── BundleCorrupt           a file is missing, extra, altered, truncated or contradicts another
    ├── BundleTooNew            written by a newer Nearlight than this one
    └── BundleExists            a bundle is already where one was to be written
    ImageError(ValueError)      an encoded image cannot become pixels
    ├── EmptyImage              no bytes
    ├── UnsupportedImage        not an image, or a format that is not allowed
    ├── ImageTooLarge           more bytes, pixels or frame data than the limits allow
    └── BrokenImage             truncated or damaged
    TextError(ValueError)       a text cannot become tokens (also raised itself: lone surrogates)
    ├── EmptyText               nothing but white space
    └── TextTooLong             more characters than the limit

Messages say what was wrong, the value and the limit, and hold no absolute path but the one the caller gave.
"""


class BundleError(Exception):
    """A model folder cannot be used."""


class NotABundle(BundleError):
    """The folder is missing or is not a bundle at all."""


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, extra, altered, truncated or contradicts another."""


class BundleTooNew(BundleError):
    """The bundle was written by a newer Nearlight than this one."""


class BundleExists(BundleError):
    """A bundle is already where one was to be written."""


class ImageError(ValueError):
    """An encoded image cannot become pixels."""


class EmptyImage(ImageError):
    """There are no bytes."""


class UnsupportedImage(ImageError):
    """The bytes are not an image, or are one of a format that is not allowed."""


class ImageTooLarge(ImageError):
    """The image has more bytes or pixels than the limits allow."""


class BrokenImage(ImageError):
    """The image is truncated or damaged."""


class TextError(ValueError):
    """A text cannot become tokens."""


class EmptyText(TextError):
    """The text holds nothing but white space."""


class TextTooLong(TextError):
    """The text has more characters than the limit."""
