"""What people see on a terminal, whatever a file is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nearlight.client.commands.terminal import printable


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (0.12345, "0.123"),
        ("two\nlines\tand a tab", "two lines and a tab"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b2J", r"\x9b2J"),
        (os.fsdecode(b"\xff.jpg"), r"\udcff.jpg"),
        ("ünïcode ☃ \N{FAMILY} [bold]", "ünïcode ☃ \N{FAMILY} [bold]"),
    ],
)
def test_one_line_that_no_terminal_obeys(cell: object, shown: str) -> None:
    assert printable(cell) == shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "nearlight.client.cli", "bundle", "list", "--json"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.strip() == "error: cannot write the result: No space left on device"
