"""How a measured figure is written: a share in percent, a count, or a number of another kind."""

_COUNTS = ("classes", "images", "captions", "bank", "labels")
_PLAIN = ("decay", "alignment", "uniformity", "effective_rank", "ece", "loss", "seconds", "minutes")


def cell(name: str, value: float) -> str:
    """Returns a figure with its unit, told from the first word of its name."""
    first = name.split("_")[0]
    if name in _COUNTS or first in _COUNTS:
        return f"{value:.0f}"
    if name in _PLAIN or first in _PLAIN:
        return f"{value:.4g}"
    return f"{value:.2f} %"
