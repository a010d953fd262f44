from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearlight.training import losses
from nearlight.training.errors import LossInputError, TrainingError
from nearlight.training.losses import (
    byol_loss,
    clip_loss,
    dino_centre,
    dino_loss,
    info_nce,
    instance_constant,
    instance_nce,
    max_margin,
    n_pairs,
    nt_xent,
    siglip_loss,
    simsiam_loss,
    supcon,
    triplet,
)

Z, W = torch.ones(4, 3), torch.ones(4, 2)
LABELS, INTS = torch.tensor([0, 0, 1, 1]), torch.zeros(4, 2, dtype=torch.long)

CASES: list[tuple[Callable[[], Tensor], str]] = [
    (lambda: nt_xent(Z, W, 0.1), r"z2 has shape \(4, 2\); it must be that of z1, \(4, 3\)"),
    (lambda: nt_xent(Z, Z, 0.0), r"temperature is 0.0; it must be > 0"),
    (lambda: nt_xent(Z, Z, torch.tensor(-0.5)), r"temperature is -0.5; it must be > 0"),
    (lambda: nt_xent(Z, Z, float("nan")), r"temperature is nan; it must be > 0"),
    (lambda: nt_xent(Z, Z, torch.ones(2)), r"temperature has shape \(2,\); it must be a scalar"),
    (lambda: nt_xent(Z[:1], Z[:1], 0.1), r"z1 has 1 rows; at least 2"),
    (lambda: nt_xent(Z[0], Z[0], 0.1), r"z1 has shape \(3,\); it must be \(N, D\)"),
    (lambda: nt_xent(Z.long(), Z.long(), 0.1), r"z1 has dtype torch.int64"),
    (lambda: info_nce(Z[:1], Z[:1], 0.1), r"query has 1 rows; at least 2"),
    (lambda: info_nce(Z, W, 0.1), r"key has shape \(4, 2\)"),
    (lambda: info_nce(Z, Z, 0.1, W), r"queue has shape \(4, 2\); it must be \(M, 3\), as wide as query"),
    (lambda: info_nce(Z, Z, 0.1, Z[:0]), r"queue has 0 rows; at least 1"),
    (lambda: info_nce(Z, Z, -1, Z), r"temperature is -1; it must be > 0"),
    (lambda: n_pairs(Z[:1], Z[:1]), r"anchor has 1 rows; at least 2"),
    (lambda: n_pairs(Z, W), r"positive has shape \(4, 2\)"),
    (lambda: supcon(Z, LABELS[:3], 0.1), r"labels has shape \(3,\); it must be \(4,\), one for each row"),
    (lambda: supcon(Z, LABELS.float(), 0.1), r"labels has dtype torch.float32"),
    (lambda: supcon(Z[:1], LABELS[:1], 0.1), r"z has 1 rows; at least 2"),
    (lambda: supcon(Z, LABELS, 0), r"temperature is 0; it must be > 0"),
    (lambda: supcon(Z, LABELS, 0.1, "both"), r"variant is 'both'; it must be \"out\" or \"in\""),  # type: ignore[arg-type]
    (lambda: supcon(Z, LABELS, 0.1, max_positives=0), r"max_positives is 0; it must be >= 1"),
    (lambda: clip_loss(Z, Z[:3], 10), r"text has shape \(3, 3\); it must be that of image"),
    (lambda: clip_loss(Z[:1], Z[:1], 10), r"image has 1 rows; at least 2"),
    (lambda: clip_loss(Z, Z, torch.ones(1)), r"logit_scale has shape \(1,\); it must be a scalar"),
    (lambda: clip_loss(Z, Z, 10, LABELS[:3]), r"groups has shape \(3,\); it must be \(4,\)"),
    (lambda: siglip_loss(Z, W, 10, -10), r"text has shape \(4, 2\)"),
    (lambda: siglip_loss(Z, Z, 10, torch.ones(4)), r"logit_bias has shape \(4,\)"),
    (lambda: triplet(Z, LABELS, -0.1), r"margin is -0.1; it must be >= 0"),
    (lambda: triplet(Z, LABELS[:3], 0.1), r"labels has shape \(3,\)"),
    (lambda: triplet(Z[:1], LABELS[:1], 0.1), r"z has 1 rows"),
    (lambda: triplet(Z, LABELS, 0.1, "hard"), r"mining is 'hard'; it must be all, batch-hard"),  # type: ignore[arg-type]
    (lambda: max_margin(Z, Z, LABELS[:3].bool(), 1.0), r"same has shape \(3,\)"),
    (lambda: max_margin(Z, Z, LABELS.bool(), float("nan")), r"margin is nan; it must be >= 0"),
    (lambda: instance_nce(Z, LABELS[:2], Z, 0.1), r"index has shape \(2,\)"),
    (lambda: instance_nce(Z, LABELS, W, 0.1), r"bank has shape \(4, 2\); it must be \(M, 3\), as wide as z"),
    (lambda: instance_nce(Z, LABELS, Z, 0.1, INTS), r"negatives is given without constant"),
    (lambda: instance_nce(Z, LABELS, Z, 0.1, None, 3.0), r"constant is given without negatives"),
    (lambda: instance_nce(Z, LABELS, Z, 0.1, INTS, 0.0), r"constant is 0.0; it must be > 0"),
    (
        lambda: instance_nce(Z, LABELS, Z, 0.1, INTS[:3], 1.0),
        r"negatives has shape \(3, 2\); it must be \(4, m\)",
    ),
    (lambda: instance_constant(Z, Z, 0.1, INTS[:, :0]), r"negatives has shape \(4, 0\)"),
    (lambda: byol_loss(Z, W), r"target has shape \(4, 2\); it must be that of prediction"),
    (lambda: simsiam_loss(Z[:0], Z[:0]), r"prediction has 0 rows; at least 1"),
    (lambda: dino_loss(Z[None], Z[None], Z[0], 0.1, 0.04), r"student has shape \(1, 4, 3\)"),
    (
        lambda: dino_loss(torch.ones(2, 4, 3), torch.ones(3, 4, 3), Z[0], 0.1, 0.04),
        r"teacher has shape \(3, 4, 3\)",
    ),
    (
        lambda: dino_loss(torch.ones(2, 4, 3), torch.ones(2, 4, 3), W[0], 0.1, 0.04),
        r"centre has shape \(2,\)",
    ),
    (lambda: dino_loss(torch.ones(2, 4, 3), torch.ones(2, 4, 3), Z[0], 0.1, 0), r"teacher_temperature is 0"),
    (lambda: dino_centre(Z[0], Z[None], 1.5), r"momentum is 1.5; it must be 0 to 1"),
    (lambda: dino_centre(W[0], Z[None]), r"centre and teacher have shapes \(2,\) and \(1, 4, 3\)"),
]


@pytest.mark.parametrize(("call", "message"), CASES, ids=[message[:40] for _, message in CASES])
def test_what_does_not_fit_is_named(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(LossInputError, match=message) as caught:
        call()
    assert isinstance(caught.value, TrainingError)
    assert isinstance(caught.value, ValueError)


def test_public_names_are_sorted_and_there() -> None:
    assert losses.__all__ == sorted(losses.__all__)
    assert all(hasattr(losses, name) for name in losses.__all__)
