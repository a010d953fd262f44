import json
from pathlib import Path

import pytest

from nearlight.training.config import load_config, resumed_config
from nearlight.training.errors import ConfigError


def test_flags_win_over_the_file_and_assignments_over_flags(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('steps = 5\nseed = 7\n[data]\ntrain = ["a"]\n[optimiser]\nlr = 0.1\n')
    config = load_config(file, {"data.train": ["b"], "data.val": None}, ["optimiser.lr=0.2", "name=x"])
    assert (config.steps, config.seed, config.data.train, config.optimiser.lr, config.name) == (
        5,
        7,
        ("b",),
        0.2,
        "x",
    )
    assert config.data.val == ()


def test_a_recipe_is_found_by_name() -> None:
    config = load_config(Path("nearlight-tiny"), {"data.train": ["a"]}, [])
    assert config.name == "nearlight-tiny"
    assert config.model.image_px == 40


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "optimiser.learning_rate=1",
            r"unknown key 'optimiser.learning_rate'; did you mean 'optimiser\.\w+'",
        ),
        ("batchsize=4", "did you mean 'batch_size'"),
        ("batch_size=1", "batch_size = 1.*greater than or equal to 2"),
        ("optimiser.lr=-1", "optimiser.lr = -1"),
        ("steps=many", "steps = 'many'"),
        ("augment.crop_scale=[0.9,0.1]", "0 < low <= high"),
        ("steps", "not of the form key=value"),
        ("steps.x=1", "'steps' is a value|steps"),
        ("precision=fp8", "precision"),
    ],
)
def test_wrong_keys_and_values_are_named(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, {"data.train": ["a"]}, [assignment])


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none.toml"):
        load_config(tmp_path / "none.toml", {}, [])
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(ConfigError, match="bad.toml"):
        load_config(tmp_path / "bad.toml", {}, [])


def test_a_resumed_run_keeps_what_its_past_depends_on(tmp_path: Path) -> None:
    saved = load_config(None, {"data.train": ["a"]}, ["steps=10"])
    (tmp_path / "config.json").write_text(json.dumps(saved.model_dump(mode="json")))
    assert resumed_config(tmp_path, (None, None, None), ["steps=20"]).steps == 20
    with pytest.raises(ConfigError, match="may change only"):
        resumed_config(tmp_path, (None, None, None), ["batch_size=8"])
    with pytest.raises(ConfigError, match="takes data and configuration from the run"):
        resumed_config(tmp_path, (["b"], None, None), [])


def test_a_named_augmentation_sets_the_operations_of_all_views() -> None:
    config = load_config(None, {}, ["augmentation=autoaugment", "views.0.grey=0.3"], "simclr")
    (view,) = config.views
    assert (view.policy, view.jitter, view.grey, view.crop_scale) == ("autoaugment", 0, 0.3, (0.08, 1.0))
    assert [v.turn for v in load_config(None, {}, ["augmentation=simaugment"], "simclr").views] == [0.5]
    assert [v.warp for v in load_config(None, {}, ["augmentation=simaugment"], "dino").views] == [0.5] * 3
    with pytest.raises(ConfigError, match="augmentation = 'rain'"):
        load_config(None, {}, ["augmentation=rain"], "simclr")
