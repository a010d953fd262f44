import pytest
import torch

from nearlight.training.losses import count_anchors_without_positives
from nearlight.training.losses.positives import group


@pytest.mark.parametrize(
    ("labels", "alone"), [([0, 0, 1, 1], 0), ([3, -7, 3, 8], 2), ([5, 5, 5], 0), ([1, 2, 3], 3), ([4], 1)]
)
def test_counts_anchors_without_positives(labels: list[int], alone: int) -> None:
    assert int(count_anchors_without_positives(torch.tensor(labels))) == alone


def test_each_row_is_as_often_a_positive_as_each_other_of_its_group() -> None:
    labels = torch.randint(0, 5, (60,), generator=torch.Generator().manual_seed(0))
    rows, exists = group(labels).following(3)
    assert exists.all()
    assert (labels[rows] == labels).all()
    assert (rows != torch.arange(60)).all()
    assert (rows.flatten().bincount() == 3).all()
    assert all(len(set(column.tolist())) == 3 for column in rows.T)


def test_sums_of_groups_include_the_row() -> None:
    labels, rows = torch.tensor([1, 0, 1, 1]), torch.arange(8.0).reshape(4, 2)
    expected = torch.stack([rows[labels == label].sum(0) for label in labels])
    assert torch.equal(group(labels).sums(rows), expected)
