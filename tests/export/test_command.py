"""`nearlight export` as a user meets it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nearlight.bundle.folder import Bundle
from nearlight.export.command import export

app = typer.Typer()
app.command()(export)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not that of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("NEARLIGHT_CACHE", str(folder))
    return folder


def run_export(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


def test_one_document_on_stdout(run: Path, full: Bundle, cache: Path, tmp_path: Path) -> None:
    card = tmp_path / "notes.md"
    card.write_text("Made for a test.")
    out = tmp_path / "bundle"
    shutil.copytree(full.path, out)
    settings = (
        "--name",
        "mine",
        "--licence",
        "MIT",
        "--card",
        card,
        "--precision",
        "fp16",
        "--force",
        "--json",
        "--no-cache",
    )
    stdout, stderr = run_export(run, "--out", out, *settings)
    document = json.loads(stdout)
    assert document["path"] == str(out)
    assert document["name"] == "mine"
    assert document["parity"]["text"]["min_cosine"] >= 0.999
    assert "proving it on generated images" in stderr
    assert list(cache.rglob("*")) == []
    assert "Made for a test." in (out / "README.md").read_text()
    assert Bundle.open(out).manifest.precision == "fp16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["open_clip:ViT-B-32"], "names no weights; write open_clip:ViT-B-32:FILE"),
        (
            ["open_clip:"],
            "names no weights; write open_clip:ARCH:FILE, open_clip:ARCH:TAG or open_clip:ARCH:random",
        ),
        (["open_clip:ViT-B-99:random"], "open_clip has no architecture 'ViT-B-99'"),
        (["open_clip:ViT-B-32:absent.pt"], "no weights at absent.pt"),
        (["nowhere", "--precision", "int4"], "--precision is 'int4'; it must be one of fp32, fp16, int8"),
        (["nowhere", "--card", "absent.md"], "absent.md"),
        (["nowhere", "--weights", "w.pt"], "--weights w.pt must end in .safetensors"),
        (["nowhere", "--min-cosine", "2"], "min_cosine is 2.0; it must be 0 to 1"),
        (["nowhere", "--dims", "12,x"], "--dims is '12,x'; it must be numbers with commas"),
        (["timm:nothing_at_all"], "timm has no model 'nothing_at_all'"),
        (["onnx:nowhere"], "no folder nowhere"),
        (["hf:nobody"], "is not hf:OWNER/NAME"),
    ],
)
def test_one_clear_line_for_each_mistake(arguments: list[str], message: str, tmp_path: Path) -> None:
    stdout, stderr = run_export(*arguments, "--out", tmp_path / "out", "--json", code=1)
    assert stdout == ""
    last = stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert list(tmp_path.iterdir()) == []


def test_the_second_export_is_a_copy(run: Path, cache: Path, tmp_path: Path) -> None:
    first, second = (run_export(run, "--out", tmp_path / name)[1] for name in ("first", "second"))
    assert "writing the image graph" in first
    assert "this was exported before: copied from" in second
    assert "writing the image graph" not in second


def test_a_dry_run_writes_nothing(run: Path, tmp_path: Path) -> None:
    said = json.loads(run_export(run, "--out", tmp_path / "out", "--dry-run", "--json")[0])
    assert (said["dim"], said["image_px"], said["context_length"]) == (48, 32, 16)
    assert said["image_bytes"] > 0
    assert "nothing is written" in run_export(run, "--out", tmp_path / "out", "--dry-run")[0]
    assert list(tmp_path.iterdir()) == []


def test_help_has_examples() -> None:
    assert "nearlight export open_clip:ViT-B-32" in run_export("--help")[0]


def test_the_command_is_cheap_to_import() -> None:
    heavy = "('torch', 'onnx', 'open_clip')"
    code = f"import sys, nearlight.export.command; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
