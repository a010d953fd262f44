"""Contrastive losses: pure functions of embeddings, exact; the softmax ones in memory linear in the batch.

Scale convention: `temperature` divides the logits; `logit_scale` multiplies them (1 / temperature, never
its logarithm). All are computed in float32 at least, outside autocast. Arguments that do not fit raise
`nearlight.training.errors.LossInputError`.
"""

from nearlight.training.losses.image_text import clip_loss as clip_loss
from nearlight.training.losses.image_text import siglip_loss as siglip_loss
from nearlight.training.losses.in_batch import info_nce as info_nce
from nearlight.training.losses.in_batch import n_pairs as n_pairs
from nearlight.training.losses.in_batch import nt_xent as nt_xent
from nearlight.training.losses.log_sum_exp import Tiling as Tiling
from nearlight.training.losses.log_sum_exp import tiling as tiling
from nearlight.training.losses.margin import max_margin as max_margin
from nearlight.training.losses.margin import triplet as triplet
from nearlight.training.losses.memory import instance_constant as instance_constant
from nearlight.training.losses.memory import instance_nce as instance_nce
from nearlight.training.losses.no_negatives import byol_loss as byol_loss
from nearlight.training.losses.no_negatives import dino_centre as dino_centre
from nearlight.training.losses.no_negatives import dino_loss as dino_loss
from nearlight.training.losses.no_negatives import simsiam_loss as simsiam_loss
from nearlight.training.losses.positives import (
    count_anchors_without_positives as count_anchors_without_positives,
)
from nearlight.training.losses.supervised import supcon as supcon

__all__ = [
    "Tiling",
    "byol_loss",
    "clip_loss",
    "count_anchors_without_positives",
    "dino_centre",
    "dino_loss",
    "info_nce",
    "instance_constant",
    "instance_nce",
    "max_margin",
    "n_pairs",
    "nt_xent",
    "siglip_loss",
    "simsiam_loss",
    "supcon",
    "tiling",
    "triplet",
]
