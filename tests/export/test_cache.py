"""The second export of the same model is a copy."""

from dataclasses import replace
from pathlib import Path

import pytest

from nearlight.bundle.folder import Bundle
from nearlight.export import exporter, proven
from nearlight.export.cache import cache_folder
from nearlight.export.exporter import ExportOptions, export_subject
from nearlight.export.subject import Subject
from nearlight.export.torch_encoders import TorchEncoders

GRAPHS = ("image.onnx", "text.onnx", "tokenizer.json", "golden.npz")


@pytest.fixture
def options(tmp_path: Path) -> ExportOptions:
    return ExportOptions(cache=tmp_path / "cache")


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each time that graphs were written and proven."""
    prove, seen = proven.prove, []

    def counted(*arguments: object) -> object:
        seen.append("proven")
        return prove(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(exporter, "prove", counted)
    return seen


def test_the_second_time_is_a_copy(
    exported: Subject, tmp_path: Path, options: ExportOptions, proofs: list[str]
) -> None:
    first = export_subject(exported, tmp_path / "first", options=options)
    renamed = replace(options, name="other", licence="MIT", notes="Seen twice.")
    second = export_subject(exported, tmp_path / "second", options=renamed)
    assert proofs == ["proven"]
    for name in GRAPHS:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    again = Bundle.open(second.path).manifest
    assert (again.name, again.licence, again.space_id) == ("other", "MIT", first.manifest.space_id)
    assert again.parity == first.manifest.parity
    assert "Seen twice." in (second.path / "README.md").read_text()
    # What decides the graphs or their figures is converted anew.
    export_subject(exported, tmp_path / "half", "fp16", options)
    export_subject(exported, tmp_path / "short", options=replace(options, dims=(24,)))
    export_subject(exported, tmp_path / "uncached", options=replace(options, cache=None))
    assert len(proofs) == 4
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_damaged_copy_is_made_anew(
    exported: Subject,
    tmp_path: Path,
    options: ExportOptions,
    proofs: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    export_subject(exported, tmp_path / "first", options=options)
    (kept,) = (tmp_path / "cache").iterdir()
    (kept / "image.onnx").write_bytes(b"worn out")
    second = export_subject(exported, tmp_path / "second", options=options)
    assert "the cached export is damaged and made anew: image.onnx is altered or truncated" in caplog.text
    assert proofs == ["proven", "proven"]
    assert Bundle.open(second.path)
    assert Bundle.open(kept)


def test_a_cache_that_cannot_be_written_costs_nothing(
    exported: Subject, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    bundle = export_subject(
        exported, tmp_path / "out", options=ExportOptions(cache=tmp_path / "file" / "cache")
    )
    assert Bundle.open(bundle.path)
    assert "the export is not cached" in caplog.text


def test_the_content_of_weights_decides(run: Path) -> None:
    from nearlight.export.run_source import open_run

    first, second = open_run(run).encoders, open_run(run).encoders
    assert isinstance(second, TorchEncoders)
    assert first.digest() == second.digest()
    weight = next(iter(second.model.visual.parameters()))  # type: ignore[union-attr]
    weight.data.view(-1)[0] += 1e-6
    assert first.digest() != second.digest()


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/nearlight/exports")
    monkeypatch.setenv("NEARLIGHT_CACHE", "/y")
    assert cache_folder() == Path("/y/exports")
