"""Small towers of every family that public models use, and tokenizers in the files of Hugging Face."""

import json
from pathlib import Path
from typing import Any

import open_clip
import timm
import tokenizers
from timm.models import eva, fastvit, vision_transformer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from torch import nn


def small_siglip(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A SigLIP image tower: no class token, pooled by attention."""
    return _built(
        vision_transformer.VisionTransformer,
        kwargs,
        img_size=32, patch_size=8, embed_dim=48, depth=1, num_heads=2, class_token=False, global_pool="map",
    )  # fmt: skip


def small_eva(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """An EVA-02 image tower: rotary positions, SwiGLU."""
    return _built(
        eva.Eva,
        kwargs,
        img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2, qkv_fused=False, swiglu_mlp=True,
        scale_mlp=True, use_rot_pos_emb=True, ref_feat_shape=(4, 4),
    )  # fmt: skip


def small_fastvit(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A MobileCLIP image tower: branches that are merged for serving."""
    return _built(
        fastvit.FastVit,
        kwargs,
        layers=(1, 1, 1, 1), embed_dims=(16, 32, 64, 128), mlp_ratios=(2, 2, 2, 2),
        token_mixers=("repmixer", "repmixer", "repmixer", "attention"), se_downsamples=(False,) * 4,
    )  # fmt: skip


def _built(kind: type[nn.Module], kwargs: dict[str, Any], **shape: Any) -> nn.Module:
    given = {name: value for name, value in kwargs.items() if not name.startswith(("pretrained", "cache"))}
    model: Any = kind(**{**shape, **given})
    model.pretrained_cfg = model.default_cfg = {"input_size": (3, 32, 32), "pool_size": None}
    small: nn.Module = model
    return small


for _entry in (small_siglip, small_eva, small_fastvit):
    if not timm.is_model(_entry.__name__):
        timm.models.register_model(_entry)


TEXT = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
SIGLIP_TEXT = {
    "context_length": 10, "vocab_size": 128, "width": 48, "heads": 2, "layers": 1,
    "hf_tokenizer_name": "nearlight/absent", "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}  # fmt: skip


def timm_vision(name: str, pool: str, proj: str | None, image_px: int = 32) -> dict[str, object]:
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": image_px}


COCA = {
    "custom_text": True,
    "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
}
# Family → configuration; each is the layout of a public architecture, made small.
FAMILIES: dict[str, dict[str, object]] = {
    "vit": {"vision_cfg": VIT, "text_cfg": TEXT},
    "vit-quickgelu": {"quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT},
    "resnet": {
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": TEXT,
    },
    "convnext": {"vision_cfg": timm_vision("test_convnext", "", "linear"), "text_cfg": TEXT},
    "eva": {"custom_text": True, "vision_cfg": timm_vision("small_eva", "token", None), "text_cfg": TEXT},
    "mobileclip": {
        "custom_text": True,
        "vision_cfg": timm_vision("small_fastvit", "avg", None),
        "text_cfg": {**TEXT, "no_causal_mask": True},
    },
    "siglip": {
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": timm_vision("small_siglip", "map", "none"),
        "text_cfg": SIGLIP_TEXT,
    },
    "coca": COCA,
}


def write_arch(folder: Path, family: str) -> str:
    """Register a family's small architecture with open_clip; its name."""
    name = f"nearlight-small-{family}"
    config = {"embed_dim": 48, **FAMILIES[family]}
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    return name


def write_unigram(folder: Path, pad: str = "</s>") -> Path:
    """A SentencePiece tokenizer as T5's kin (SigLIP) save it: unigrams, `▁` for blanks, `</s>` at the end."""
    pieces = ["<pad>", "</s>", "<unk>", "▁"]
    letters = [chr(code) for code in range(97, 123)]
    words = ["▁a", "▁two", "▁dog", "s", "▁the", "▁red", "▁ball", "▁child", "▁on", "▁run", "ing"]
    known = dict.fromkeys([*pieces, *words, *letters])
    vocabulary = [(piece, 0.0 if number < 3 else -2.0 - number / 10) for number, piece in enumerate(known)]
    made = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=2))
    made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return _save(
        made, folder, {"pad_token": {"content": pad, "special": True}, "eos_token": "</s>"}, "T5Tokenizer"
    )


def write_wordpiece(folder: Path) -> Path:
    """BERT's tokenizer, as CLIPA uses it."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = ["a", "two", "dog", "##s", "the", "red", "ball", "child", "on", "run", "##ning", ".", ","]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106  # no password
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.add_special_tokens(special)
    tokens: dict[str, object] = {
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
    }
    return _save(made, folder, tokens, "BertTokenizer")


def _save(made: tokenizers.Tokenizer, folder: Path, tokens: dict[str, object], kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokens, "tokenizer_class": kind}))
    return folder
