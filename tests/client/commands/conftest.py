"""Runs `nearlight` against the fake server."""

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from nearlight.client import cli

Run = Callable[..., Any]


@pytest.fixture
def nearlight(fake: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a subcommand; the server is named by the environment, as users do."""
    monkeypatch.setenv("NEARLIGHT_SERVER", fake.address)
    return lambda *words: CliRunner().invoke(cli.app, [str(word) for word in words])
