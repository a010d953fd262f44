import pytest

from nearlight.training.config import OptimiserSection
from nearlight.training.schedule import lr_factor


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_warms_up_reaches_one_and_ends_near_zero(schedule: str) -> None:
    section = OptimiserSection.model_validate({"schedule": schedule, "warmup_steps": 10, "decay_share": 0.4})
    factors = [lr_factor(step, 100, section) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(factors) == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 <= factors[-1] < 0.03


def test_wsd_stays_until_its_decay_whatever_the_total() -> None:
    section = OptimiserSection(schedule="wsd", warmup_steps=5, decay_share=0.25)
    for steps in (100, 200):
        assert lr_factor(steps * 3 // 4 - 1, steps, section) == 1.0
        assert lr_factor(steps * 7 // 8, steps, section) == pytest.approx(0.5, abs=0.03)


def test_cosine_is_half_way_down_in_the_middle() -> None:
    section = OptimiserSection(warmup_steps=0)
    assert lr_factor(50, 100, section) == pytest.approx(0.5)
