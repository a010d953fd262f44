import math

import pytest
import torch
from torch import nn

from nearlight.training.optimisers import Lars, build_optimiser, decay_at, set_rates
from nearlight.training.sections import OptimiserSection


def test_lars_by_hand() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    solver = Lars(layer.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
    kept = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for _ in range(3):
        layer.weight.grad, layer.bias.grad = torch.randn(2, 3), torch.randn(2)
        g = layer.weight.grad + 0.1 * weight
        kept[0] = 0.9 * kept[0] + 0.01 * weight.norm() / g.norm() * g
        kept[1] = 0.9 * kept[1] + layer.bias.grad  # neither decayed nor adapted
        weight, bias = weight - 0.5 * kept[0], bias - 0.5 * kept[1]
        solver.step()
    torch.testing.assert_close(layer.weight.detach(), weight)
    torch.testing.assert_close(layer.bias.detach(), bias)


def test_lars_moves_a_layer_of_zeros() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    Lars([weight], lr=0.1).step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), -0.1))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars", "rmsprop"])
def test_norms_and_biases_are_not_decayed_and_steady_parts_keep_their_rate(name: str) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    module[0].weight.requires_grad_(False)
    section = OptimiserSection.model_validate({"name": name, "weight_decay": 0.2})
    solver = build_optimiser(module, section, 0.4, steady=[module[2]])
    set_rates(solver, 0.4, 0.5, 0.3)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in solver.param_groups for p in g["params"]}
    wanted = {
        id(module[0].bias): (0.2, 0.0),
        id(module[1].weight): (0.2, 0.0),
        id(module[1].bias): (0.2, 0.0),
        id(module[2].weight): (0.4, 0.3),
        id(module[2].bias): (0.4, 0.0),
    }
    assert found == wanted


def test_weight_decay_follows_a_cosine() -> None:
    section = OptimiserSection(weight_decay=0.04, weight_decay_end=0.4)
    assert [decay_at(p, section) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.04, 0.22, 0.4])
    assert decay_at(0.7, OptimiserSection(weight_decay=0.3)) == 0.3
    assert math.isclose(decay_at(1.0, section), 0.4)
