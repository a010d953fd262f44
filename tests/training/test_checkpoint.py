import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nearlight.training.checkpoint import load_checkpoint, load_model, save_checkpoint
from nearlight.training.config import check_config, resumed_config
from nearlight.training.errors import CheckpointError
from nearlight.training.trainer import Trainer


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, {"step": 1})

    def full(state: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"MiB free.*No space left.*before it is kept"):
        save_checkpoint(tmp_path, {"step": 2})
    assert load_checkpoint(tmp_path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint\.pt"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, {"step": 1, "x": torch.zeros(1000)})
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"hello", b"\x80\x04."):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(tmp_path)
    torch.save({"format": 99}, path)
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"format": 1, "x": Payload()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "touched").exists()


def test_load_model_gives_back_the_towers(tmp_path: Path, small: dict[str, Any]) -> None:
    trainer = Trainer(check_config(small), tmp_path)
    trainer.save()
    loaded = load_model(tmp_path)
    tokens = torch.randint(0, 500, (2, 16))
    towers: Any = trainer.method.eval().get_submodule("towers")
    assert torch.equal(loaded.model.encode_text(tokens), towers.encode_text(tokens))
    assert json.loads(loaded.tokenizer_json)["model"]["type"] == "BPE"
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="does not hold the model"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="not a training run"):
        load_model(tmp_path / "elsewhere")


def test_a_run_of_the_first_version_is_read_and_resumed(tmp_path: Path, small: dict[str, Any]) -> None:
    Trainer(check_config(small), tmp_path).save()
    config = json.loads((tmp_path / "config.json").read_text())
    new = ("encoder", "views", "options", "watch", "epochs", "chunk")  # what it did not know
    old = {key: value for key, value in config.items() if key not in new}
    names = ("name", "lr_batch_size", "momentum", "trust", "weight_decay_end", "warmup_epochs")
    old["optimiser"] = {key: value for key, value in old["optimiser"].items() if key not in names}
    (tmp_path / "config.json").write_text(json.dumps(old))
    state = load_checkpoint(tmp_path)
    kept = {key: state[key] for key in ("step", "method_id", "method", "optimiser", "rng")}
    save_checkpoint(tmp_path, kept)
    assert all(name.startswith("towers.") for name in kept["method"])
    assert load_model(tmp_path).step == 0
    assert Trainer(resumed_config(tmp_path, (), ()), tmp_path, resume=True).train()
