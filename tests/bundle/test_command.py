"""`nearlight bundle` as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nearlight.bundle import registry
from nearlight.bundle.command import app
from nearlight.bundle.folder import Bundle, write_bundle
from tests.bundle.conftest import FILES, manifest_of


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


def test_info_as_json(bundle: Bundle) -> None:
    out, err = run("info", bundle.path, "--json")
    facts = json.loads(out)
    assert err == ""
    assert facts["path"] == str(bundle.path)
    assert facts["name"] == "hand-made"
    assert facts["space_id"] == bundle.manifest.space_id
    assert facts["dim"] == 8
    assert facts["towers"]["text"]["context_length"] == 16
    assert facts["precision"] == "fp32"
    assert facts["metrics"] == {"zeroshot": {"top1": 0.5}}
    assert facts["parity"]["image"]["min_cosine"] == 0.999999
    assert facts["files"]["image.onnx"] == 1400


def test_info_for_people(bundle: Bundle) -> None:
    out, _ = run("info", bundle.path)
    for fact in (
        "hand-made",
        bundle.manifest.space_id,
        "64 px",
        "up to 16 tokens",
        "softmax, scale 20",
        "Apache-2.0",
    ):
        assert fact in out


def test_info_says_which_shorter_vectors_hold(tmp_path: Path) -> None:
    cuts = [{"dim": 4, "recall_at_10": 0.4, "whole_recall_at_10": 0.9, "holds": False}]
    made = write_bundle(tmp_path / "cut", manifest_of(truncations=cuts), FILES)
    assert "4 numbers: recall@10 0.4 of 0.9, does not hold" in run("info", made.path)[0]


def test_by_name(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MODELS", bundle.path.parent)
    assert json.loads(run("info", "hand-made", "--json")[0])["path"] == str(bundle.path)
    assert [facts["name"] for facts in json.loads(run("list", "--json")[0])] == ["hand-made"]


def test_verify(bundle: Bundle) -> None:
    out = run("verify", bundle.path)[0]
    assert "all 6 files agree" in out
    assert "golden vectors: this bundle has none" in out
    facts = json.loads(run("verify", bundle.path, "--json")[0])
    assert (facts["verified"], facts["golden_min_cosine"]) == (True, None)


@pytest.mark.parametrize("command", ["info", "verify"])
def test_one_clear_line_for_each_wrong_bundle(bundle: Bundle, tmp_path: Path, command: str) -> None:
    def error(where: object) -> str:
        out, err = run(command, where, "--json", code=1)
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    assert "no such folder" in error(tmp_path / "absent") or "neither a folder" in error(tmp_path / "absent")
    assert "has no manifest.json" in error(tmp_path)
    image = bundle.path / "image.onnx"
    content = image.read_bytes()
    os.truncate(image, 10)
    assert "image.onnx is altered or truncated" in error(bundle.path)
    image.write_bytes(content.replace(b"graph", b"grape", 1))
    assert "image.onnx is altered or truncated" in error(bundle.path)
    manifest = bundle.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 9'))
    assert "format_version 9; this Nearlight reads up to 1" in error(bundle.path)
    manifest.write_text("{")
    assert "manifest.json is not JSON" in error(bundle.path)


def test_list_shows_the_broken_ones(bundle: Bundle) -> None:
    folder = bundle.path.parent
    (folder / "broken").mkdir()
    (folder / "broken" / "manifest.json").write_text("{}")
    (folder / "not-one").mkdir()
    listed = json.loads(run("list", folder, "--json")[0])
    assert [facts["name"] for facts in listed] == ["broken", "hand-made"]
    assert "Field required" in listed[0]["error"]
    out, _ = run("list", folder)
    assert "image + text" in out
    assert "error: manifest.json" in out
    assert "no bundles found" in run("list", folder / "not-one")[1]
    assert "error: no folder" in run("list", folder / "absent", code=1)[1]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEARLIGHT_BUNDLES", str(tmp_path / "library"))
    return tmp_path / "library"


def test_a_bundle_goes_round(bundle: Bundle, own: Path, tmp_path: Path) -> None:
    """Pulled from a folder, found by name, pushed to a share, pulled again, removed."""
    pulled = json.loads(run("pull", bundle.path, "--name", "vit", "--json")[0])
    assert pulled["name"] == "vit"
    assert pulled["path"] == str(own / "vit" / pulled["version"])
    assert json.loads(run("info", "vit", "--json")[0])["space_id"] == bundle.manifest.space_id
    assert f"vit@{pulled['version']}" in run("list")[0]
    run("push", "vit", tmp_path / "share" / "vit")
    assert Bundle.open(tmp_path / "share" / "vit").manifest == bundle.manifest
    assert run("pull", tmp_path / "share" / "vit", "--name", "vit")[0].startswith(
        f"vit@{pulled['version']}: "
    )
    assert "removed vit@" in run("rm", f"vit@{pulled['version'][:5]}")[0]
    assert "no bundle 'vit'" in run("rm", "vit", code=1)[1]
    assert bundle.path.is_dir()


def test_removing_several_needs_a_word(bundle: Bundle, own: Path, tmp_path: Path) -> None:
    run("pull", bundle.path)
    other = write_bundle(tmp_path / "other", manifest_of(description="another"), FILES)
    run("pull", other.path)
    assert "has 2 versions" in run("rm", "hand-made", code=1)[1]
    assert run("rm", "hand-made", "--all")[0].count("removed") == 2
    assert list(own.iterdir()) == []


def test_pull_and_push_that_fail(bundle: Bundle, own: Path, tmp_path: Path) -> None:
    assert "no such folder" in run("pull", tmp_path / "absent", code=1)[1]
    assert "exists already" in run("push", bundle.path, bundle.path, code=1)[1]
    assert "is not hf:OWNER/NAME" in run("pull", "hf:nobody", code=1)[1]
    (bundle.path / "image.onnx").write_bytes(b"altered")
    assert "image.onnx is altered" in run("pull", bundle.path, code=1)[1]
    assert "image.onnx is altered" in run("push", bundle.path, tmp_path / "out", code=1)[1]
    assert not own.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["info", "verify", "list", "pull", "push", "rm"])
def test_help_has_examples(command: str) -> None:
    assert f"nearlight bundle {command}" in run(command, "--help")[0]


def test_the_command_is_cheap_to_import() -> None:
    heavy = "torch onnx onnxruntime PIL tokenizers ftfy pydantic numpy"
    code = f"import sys, nearlight.bundle.command; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_room_needs_no_torch_nor_onnx() -> None:
    names = "checksums clip_bpe command errors folder golden image manifest prompts registry remote text"
    code = (
        "import sys, importlib;"
        f"[importlib.import_module('nearlight.bundle.' + n) for n in '{names}'.split()];"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'open_clip') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
