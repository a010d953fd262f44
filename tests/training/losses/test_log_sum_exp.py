import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearlight.training.losses import (
    clip_loss,
    info_nce,
    instance_nce,
    n_pairs,
    nt_xent,
    siglip_loss,
    supcon,
    tiling,
)
from nearlight.training.losses.log_sum_exp import Kept, row_and_column_log_sum_exp, row_log_sum_exp

N, D, SIDE = 512, 8, 64
Loss = Callable[[Tensor, Tensor], Tensor]


def labels_of(n: int) -> Tensor:
    return torch.arange(n) % (n // 4)


TILED_LOSSES: dict[str, Loss] = {
    "nt-xent": lambda a, b: nt_xent(a, b, 0.1),
    "info-nce": lambda a, b: info_nce(a, b, 0.1),
    "info-nce-queue": lambda a, b: info_nce(a, b, 0.1, b.detach()),
    "supcon-out": lambda a, b: supcon(a, labels_of(len(a)), 0.1),
    "supcon-in": lambda a, b: supcon(a, labels_of(len(a)), 0.1, "in"),
    "supcon-out-cap": lambda a, b: supcon(a, labels_of(len(a)), 0.1, "out", 2),
    "supcon-in-cap": lambda a, b: supcon(a, labels_of(len(a)), 0.1, "in", 2),
    "clip": lambda a, b: clip_loss(a, b, 10.0),
    "clip-groups": lambda a, b: clip_loss(a, b, 10.0, labels_of(len(a))),
    "siglip": lambda a, b: siglip_loss(a, b, 10.0, -10.0),
    "n-pairs": n_pairs,
    "instance": lambda a, b: instance_nce(a, torch.arange(len(a)), b, 0.1),
}


def vectors(n: int) -> tuple[Tensor, Tensor]:
    a, b = torch.randn(2, n, D, generator=torch.Generator().manual_seed(0))
    return a.requires_grad_(), b.requires_grad_()


@pytest.mark.parametrize("name", TILED_LOSSES)
def test_memory_of_tiles_grows_with_n_and_never_holds_all_pairs(
    name: str, peak_bytes: Callable[[Callable[[], Tensor]], int]
) -> None:
    """All tensors alive at once, forward and backward."""

    def peak(n: int, dense_elements: int) -> int:
        a, b = vectors(n)
        with tiling(dense_elements, SIDE):
            return peak_bytes(lambda: TILED_LOSSES[name](a, b))

    all_pairs = 4 * N * N
    assert peak(N, 2**40) > 2 * all_pairs  # the meter sees a matrix where there is one
    tiled = peak(N, 0)
    assert tiled < all_pairs / 4
    assert peak(2 * N, 0) - tiled < 12 * 4 * N * D  # N rows more take 5 to 11 times their own size


@pytest.mark.parametrize("name", TILED_LOSSES)
def test_tiles_are_chosen_above_the_limit_alone(
    name: str, peak_bytes: Callable[[Callable[[], Tensor]], int]
) -> None:
    a, b = vectors(64)
    pairs = (2 * 64) ** 2 if name == "nt-xent" else 64**2
    with tiling(pairs, 8):
        dense = peak_bytes(lambda: TILED_LOSSES[name](a, b))
    with tiling(pairs - 1, 8):
        tiled = peak_bytes(lambda: TILED_LOSSES[name](a, b))
    assert tiled < dense


def test_the_default_limit_is_four_million_pairs(peak_bytes: Callable[[Callable[[], Tensor]], int]) -> None:
    a, b = vectors(1449)  # 2,898² logits are just above 2²²
    assert peak_bytes(lambda: nt_xent(a, b, 0.1)) < 2**22 * 4 * 2


@pytest.mark.parametrize("name", TILED_LOSSES)
def test_tiles_change_neither_loss_nor_gradients(name: str) -> None:
    results = []
    for dense_elements, side in ((2**22, None), (0, 1), (0, 7), (0, 40), (0, 41)):
        a, b = (x.detach()[:40].double().requires_grad_() for x in vectors(40))
        with tiling(dense_elements, side):
            loss = TILED_LOSSES[name](a, b)
        loss.backward()  # type: ignore[no-untyped-call]  # outside: the backward remembers its tiles
        results.append((loss.detach(), a.grad, b.grad))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-10, atol=1e-13)


@pytest.mark.usefixtures("any_tiling")
@pytest.mark.parametrize("without", [(), (0,), (0, 3, -3), (6, -6), (7, -9)])
@pytest.mark.parametrize("groups", [None, [0, 1, 0, 1, 2, 0, 1]])
def test_sums_what_is_kept(
    batch: Callable[..., Tensor], without: tuple[int, ...], groups: list[int] | None
) -> None:
    rows, columns = batch(7, 3), batch(7, 3, seed=1)
    kept = Kept(without, None if groups is None else torch.tensor(groups))
    by_row, by_column = row_and_column_log_sum_exp(rows, columns, kept)
    torch.testing.assert_close(row_log_sum_exp(rows, columns, kept), by_row, rtol=0, atol=0)
    logits = (rows @ columns.T).tolist()
    counts = [
        [j - i not in without and (groups is None or groups[i] == groups[j]) for j in range(7)]
        for i in range(7)
    ]
    for i in range(7):
        of_row = [logits[i][j] for j in range(7) if counts[i][j]]
        of_column = [logits[j][i] for j in range(7) if counts[j][i]]
        for found, terms in ((by_row[i], of_row), (by_column[i], of_column)):
            least = torch.finfo(torch.float64).min
            expected = math.log(sum(math.exp(term) for term in terms)) if terms else least
            assert float(found.detach()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.usefixtures("any_tiling")
def test_a_row_of_which_nothing_is_kept_has_no_gradient(batch: Callable[..., Tensor]) -> None:
    rows, columns = batch(7, 3), batch(7, 3, seed=1)
    sums = row_log_sum_exp(rows, columns, Kept((0,), torch.tensor([0, 1, 0, 1, 2, 0, 1])))
    sums[4].backward()  # type: ignore[no-untyped-call]
    assert rows.grad is not None
    assert columns.grad is not None
    assert not rows.grad.any()
    assert not columns.grad.any()


@pytest.mark.usefixtures("any_tiling")
def test_rows_and_columns_of_different_number(batch: Callable[..., Tensor]) -> None:
    rows, columns = batch(4, 3), batch(9, 3, seed=1)
    by_row, by_column = row_and_column_log_sum_exp(rows, columns)
    logits = rows @ columns.T
    torch.testing.assert_close(by_row, logits.logsumexp(1))
    torch.testing.assert_close(by_column, logits.logsumexp(0))
    assert torch.autograd.gradcheck(row_and_column_log_sum_exp, (rows, columns))


def test_not_a_number_is_not_hidden(batch: Callable[..., Tensor]) -> None:
    a, b = batch(8, 3).detach(), batch(8, 3, seed=1).detach()
    a[3, 1] = torch.nan
    with tiling(0, 3):
        assert nt_xent(a, b, 0.1).isnan()
        assert clip_loss(a, b, 10.0).isnan()
