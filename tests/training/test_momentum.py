import pytest
import torch
from torch import nn

from nearlight.training.momentum import cosine_momentum, follow, momentum_copy
from nearlight.training.queues import enqueue, fresh_rows


def test_a_copy_follows_and_gets_no_gradient() -> None:
    module = nn.Linear(2, 2)
    twin = momentum_copy(module)
    assert not any(p.requires_grad for p in twin.parameters())
    old = twin.weight.clone()  # type: ignore[operator]
    with torch.no_grad():
        module.weight.add_(1)
    follow(twin, module, 0.9)
    torch.testing.assert_close(twin.weight, old + 0.1)
    assert [cosine_momentum(0.99, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.99, 0.995, 1.0])


def test_a_queue_keeps_the_latest_rows_whatever_divides() -> None:
    queue, place = fresh_rows(5, 2), torch.zeros((), dtype=torch.int64)
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(5))
    seen: list[float] = []
    for count in (2, 2, 3, 7, 1):
        rows = torch.arange(len(seen), len(seen) + count).float()[:, None].expand(-1, 2)
        enqueue(queue, place, rows)
        seen += rows[:, 0].tolist()
        if len(seen) >= 5:
            assert sorted(queue[:, 0].tolist()) == seen[-5:]
