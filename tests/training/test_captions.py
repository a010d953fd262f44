import json
from pathlib import Path

import numpy as np
import pytest

from nearlight.training.captions import load_templates, say
from nearlight.training.errors import DataError
from nearlight.training.sources import open_source


def test_class_mates_share_sentence_and_group_across_sources(captioned: Path, labelled: Path) -> None:
    one, two, pairs = open_source(str(labelled)), open_source(str(labelled)), open_source(str(captioned))
    rows = np.array([0, 1, 4])  # red, green, red
    said = say(
        [(one, rows), (two, rows), (pairs, np.array([0, 4]))], ["a {}", "the {}"], np.random.default_rng(0)
    )
    assert said.groups[[0, 2, 3, 5]].tolist() == [said.groups[0]] * 4
    assert said.groups[1] == said.groups[4] != said.groups[0]
    assert len(set(said.groups.tolist())) == 4  # red, green and two pictures that are nobody's mates
    assert said.index[0] == said.index[2] == said.index[5]
    assert said.texts[said.index[0]] in ("a red", "the red")
    assert len(said.texts) == 4


def test_captions_are_drawn_from_the_image_itself(captioned: Path) -> None:
    source = open_source(str(captioned))
    rows = np.arange(40)
    assert source.captions is not None
    draws = [say([(source, rows)], ["{}"], np.random.default_rng(seed)) for seed in range(2)]
    for said in draws:
        for row in rows:
            assert said.texts[said.index[row]] in source.captions[int(row)]
    assert [draws[0].texts[i] for i in draws[0].index] != [draws[1].texts[i] for i in draws[1].index]


def test_templates_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"A": {"templates": ["a {}."]}, "B": ["b {}", "c {}"]}))
    assert load_templates(f"{path}#A") == ("a {}.",)
    assert load_templates(f"{path}#B") == ("b {}", "c {}")
    with pytest.raises(DataError, match="NAME one of A, B"):
        load_templates(str(path))
    path.write_text(json.dumps(["no place"]))
    with pytest.raises(DataError, match="no place"):
        load_templates(str(path))
    with pytest.raises(DataError, match="cannot read"):
        load_templates(str(tmp_path / "none.json"))
    assert all(t.count("{}") == 1 for t in load_templates(None))
