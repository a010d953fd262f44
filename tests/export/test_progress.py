"""What long work tells of itself."""

import io

import numpy as np
import pytest
from rich import console

from nearlight.export.parity import _embed
from nearlight.export.progress import bars, tell, told_to


def test_work_tells_how_far_it_is() -> None:
    said: list[tuple[str, int, int]] = []
    with told_to(lambda *told: said.append(told)):
        _embed("rows", 50, lambda start, stop: np.zeros((stop - start, 2), np.float32))
    tell("rows", 1, 2)  # nobody looks any more
    assert said == [("rows", 32, 50), ("rows", 50, 50)]


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    shown = io.StringIO()
    real = console.Console

    def screen(stderr: bool) -> console.Console:
        assert stderr
        return real(file=shown, force_terminal=terminal)

    monkeypatch.setattr(console, "Console", screen)
    with bars():
        tell("proving", 1, 3)
        tell("proving", 3, 3)
    assert ("proving" in shown.getvalue()) == terminal
