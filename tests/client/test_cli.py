"""The command finds its subcommands lazily and says what is missing."""

import importlib.metadata
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from nearlight.client import cli

run = CliRunner().invoke


def test_help_lists_every_subcommand_and_loads_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Any) -> None:
        raise AssertionError(f"{self.name} was loaded")

    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", load)
    result = run(cli.app, ["--help"])
    assert result.exit_code == 0
    for name, summary in cli.SUMMARIES.items():
        assert name in result.stdout
        assert summary.split()[0] in result.stdout


@pytest.mark.parametrize("name", sorted(cli.SUMMARIES))
def test_summary_is_the_subcommands_own_first_line(name: str) -> None:
    try:
        command = cli.as_command(cli.entry_points()[name].load(), name)
    except ImportError as error:
        pytest.skip(f"not installed: {error}")
    assert cli.SUMMARIES[name] == (command.help or "").split("\n")[0].strip()


def test_version() -> None:
    result = run(cli.app, ["--version"])
    assert result.stdout.strip() == f"nearlight {importlib.metadata.version('nearlight')}"


def test_no_such_subcommand() -> None:
    assert run(cli.app, ["frobnicate"]).exit_code == 2


def entry(value: str, name: str = "train") -> importlib.metadata.EntryPoint:
    return importlib.metadata.EntryPoint(name, value, cli.GROUP)


def test_subcommand_whose_packages_are_missing_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda: {"train": entry("a_package_nobody_has:app")})
    for words in (["train"], ["train", "clip", "--data", "x"]):
        result = run(cli.app, words)
        assert result.exit_code == 1
        assert "a_package_nobody_has is missing" in result.stderr
        assert "pip install 'nearlight[train]'" in result.stderr


def test_package_missing_only_when_the_subcommand_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        """Needs what is not there."""
        __import__("torch_of_another_kind")

    monkeypatch.setattr(cli, "entry_points", lambda: {"export": entry("x:y", "export")})
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: command)
    monkeypatch.setattr(sys, "argv", ["nearlight", "export"])
    with pytest.raises(SystemExit, match=r"torch_of_another_kind is missing.*nearlight\[export\]"):
        cli.main()


def test_functions_apps_and_groups_are_all_subcommands(monkeypatch: pytest.MonkeyPatch) -> None:
    single, group = typer.Typer(), typer.Typer()

    @single.command()
    def only(word: str) -> None:
        typer.echo(f"single {word}")

    @group.callback()
    def several() -> None:
        """Several."""

    @group.command()
    def one() -> None:
        typer.echo("one of several")

    def function(number: int = 1) -> None:
        typer.echo(f"function {number}")

    targets: dict[str, Any] = {"single": single, "group": group, "function": function}
    monkeypatch.setattr(cli, "entry_points", lambda: {name: entry(name, name) for name in targets})
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: targets[self.value])
    assert run(cli.app, ["single", "x"]).stdout == "single x\n"
    assert run(cli.app, ["group", "one"]).stdout == "one of several\n"
    assert run(cli.app, ["function", "--number", "2"]).stdout == "function 2\n"
    assert "single" in run(cli.app, ["--help"]).stdout
