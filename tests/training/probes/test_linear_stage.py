import pytest
import torch

from nearlight.training.probes.linear_stage import RATES, fit_by_steps


@pytest.mark.parametrize("optimiser", RATES)
def test_every_optimiser_finds_the_classes(optimiser: str) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(600) % 3
    x = torch.randn(600, 8, generator=generator)
    x[:, :3] += 4 * torch.nn.functional.one_hot(y, 3)
    x = (x - x.mean(dim=0)) / x.std(dim=0)
    layer = fit_by_steps(x, y, 3, optimiser, seed=0, epochs=100)
    assert float((layer(x).argmax(dim=1) == y).float().mean()) > 0.97
    again = fit_by_steps(x, y, 3, optimiser, seed=0, epochs=100)
    assert torch.equal(layer.weight, again.weight)
