"""Text towers of transformers, from a local configuration; needs that package."""

import json
from pathlib import Path

import open_clip
import pytest

from nearlight.export.choice import Choice
from nearlight.export.open_clip_source import open_open_clip
from nearlight.export.parity import prove_texts
from nearlight.export.samples import gather
from tests.export.towers import VIT, write_wordpiece

pytest.importorskip("transformers")


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.filterwarnings("ignore")
def test_a_text_tower_of_transformers(kind: str, tmp_path: Path) -> None:
    folder = write_wordpiece(tmp_path / "text")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": 64, "pad_token_id": 0, "max_position_embeddings": 40}
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **sizes, **ids}))
    text = {"hf_model_name": "some/where", "hf_tokenizer_name": "some/where", "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear", "context_length": 12}  # fmt: skip
    name = f"nearlight-small-{kind}"
    (tmp_path / f"{name}.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": VIT, "text_cfg": text}))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    subject = open_open_clip(name, "random", Choice(tokenizer=folder))
    assert subject.text is not None
    assert (subject.text.context_length, subject.text.trimmable) == (12, False)
    samples = gather(None, (), subject.image.preprocess)
    prove_texts(subject, subject.encoders.text_onnx(), samples, 0.99999)
