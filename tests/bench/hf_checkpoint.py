"""A CLIP of open_clip as a folder that transformers reads: the same numbers under the names used there."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from nearlight.bundle.folder import Bundle

F32 = npt.NDArray[np.float32]

_LAYER_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OTHERS = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "logit_scale": "logit_scale",
}
# open_clip multiplies by these from the right, transformers keeps them as weights of linear layers.
_TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}


def write_hf_checkpoint(weights: Path, bundle: Bundle, out: Path) -> None:
    """Write a ViT-B/32 as transformers saves it.

    Args:
        weights: state of the open_clip model (safetensors), as `nearlight export --weights` writes it.
        bundle: made of the same model; gives the tokenizer and the preprocessing.
        out: folder; made.
    """
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(value) for name, value in _renamed(load_file(weights)).items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    _write_json(out / "config.json", _config())
    image = bundle.manifest.towers.image
    _write_json(
        out / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": image.preprocess.size_px},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": image.preprocess.size_px, "width": image.preprocess.size_px},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": image.mean,
            "image_std": image.std,
        },
    )
    _write_tokenizer(bundle, out)


def _renamed(state: dict[str, F32]) -> dict[str, F32]:
    found: dict[str, F32] = {}
    for name, value in state.items():
        side = "vision_model" if name.startswith("visual.") else "text_model"
        rest = name.removeprefix("visual.")
        if name in _TURNED:
            found[_TURNED[name]] = value.T
        elif rest.startswith("transformer.resblocks."):
            number, part = rest.removeprefix("transformer.resblocks.").split(".", 1)
            found |= _layer(f"{side}.encoder.layers.{number}", part, value)
        else:
            stem = next((old for old in _OTHERS if name == old or name.startswith(f"{old}.")), None)
            if stem:  # what is left are buffers, such as the causal mask
                found[_OTHERS[stem] + name.removeprefix(stem)] = value
    return found


def _layer(where: str, part: str, value: F32) -> dict[str, F32]:
    if part.startswith("attn.in_proj_"):
        kind = part.removeprefix("attn.in_proj_")
        parts = np.split(value, 3)
        return {f"{where}.self_attn.{name}_proj.{kind}": one for name, one in zip("qkv", parts, strict=True)}
    stem, _, kind = part.rpartition(".")
    return {f"{where}.{_LAYER_PARTS[stem]}.{kind}": value}


def _config() -> dict[str, object]:
    """Of a ViT-B/32 with the exact GELU, as open_clip builds it."""
    same = {"num_hidden_layers": 12, "hidden_act": "gelu", "projection_dim": 512, "layer_norm_eps": 1e-5}
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "vocab_size": 49408}
    ends = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    image = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": 512,
        "text_config": {
            "model_type": "clip_text_model",
            "max_position_embeddings": 77,
            **text,
            **ends,
            **same,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": 224,
            "patch_size": 32,
            **image,
            **same,
        },
    }


def _write_tokenizer(bundle: Bundle, out: Path) -> None:
    model = json.loads((bundle.path / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (out / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    start, end = "<|startoftext|>", "<|endoftext|>"
    names = {"<start_of_text>": start, "<end_of_text>": end}
    _write_json(out / "vocab.json", {names.get(name, name): i for name, i in model["vocab"].items()})
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    _write_json(
        out / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **special},
    )
    _write_json(out / "special_tokens_map.json", special)


def _write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
