"""The learning rate at a step."""

import math

from nearlight.training.config import OptimiserSection


def lr_factor(step: int, steps: int, section: OptimiserSection) -> float:
    """Returns the share of `lr` used at a step (0-based): linear warm-up, then the schedule, to 0."""
    if step < section.warmup_steps:
        return (step + 1) / section.warmup_steps
    if section.schedule == "cosine":
        progress = (step - section.warmup_steps) / max(steps - section.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    decay_steps = max(round(steps * section.decay_share), 1)
    return min(1.0, (steps - step) / decay_steps)
