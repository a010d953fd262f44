"""The fifteen corruptions of Hendrycks and Dietterich 2019, made in batches on the device."""

from nearlight.training.probes.corruptions.catalogue import CORRUPTIONS as CORRUPTIONS
from nearlight.training.probes.corruptions.catalogue import SEVERITIES as SEVERITIES
from nearlight.training.probes.corruptions.catalogue import corrupt as corrupt

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]
