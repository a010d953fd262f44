"""Towers in fewer steps: the vectors of open_clip's own modules, with fewer products and plain operators."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nearlight.bundle.folder import Bundle
from nearlight.bundle.manifest import ImagePreprocess, ImageTower
from nearlight.export.graphs import ImageGraph, TextGraph
from nearlight.export.lean import lean_images, lean_texts
from nearlight.export.onnx_file import open_runner
from nearlight.export.onnx_writer import Input, write_onnx
from tests.export.towers import TEXT, VIT

TOWER = ImageTower(preprocess=ImagePreprocess(size_px=32), mean=(0.4, 0.5, 0.3), std=(0.2, 0.3, 0.25))
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8))
MEAN, STD = (torch.tensor(values)[:, None, None] for values in (TOWER.mean, TOWER.std))
SCALED = (PIXELS.permute(0, 3, 1, 2) / 255 - MEAN) / STD


def clip(vision: dict[str, Any], text: dict[str, Any], *, custom: bool = False) -> Any:
    """A small model whose weights, biases and norms are all far from where they start."""
    torch.manual_seed(5)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = kind(
        embed_dim=24, vision_cfg={**VIT, "layers": 3, **vision}, text_cfg={**TEXT, "layers": 3, **text}
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


@pytest.mark.parametrize(
    "vision",
    [
        {},
        {"ls_init_value": 0.3},
        {"no_ln_pre": True},
        {"final_ln_after_pool": True},
        {"act_kwargs": {"approximate": "tanh"}},
        {"pos_embed_type": "sin_cos_2d"},
        {"layers": 1},
    ],
)
@torch.inference_mode()
def test_images(vision: dict[str, Any]) -> None:
    visual = clip(vision, {}).visual
    lean = lean_images(visual, TOWER)
    assert lean is not None
    np.testing.assert_allclose(lean(PIXELS), visual(SCALED), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("text", "custom"),
    [
        ({}, False),
        ({"ls_init_value": 0.3}, False),
        ({}, True),
        ({"pool_type": "eos", "eos_id": 7}, True),
        ({"no_causal_mask": True, "pool_type": "last", "proj_bias": True}, True),
        ({"no_causal_mask": True, "pool_type": "first", "proj_type": "none", "width": 24}, True),
    ],
)
@torch.inference_mode()
def test_texts(text: dict[str, Any], custom: bool) -> None:
    model = clip({}, text, custom=custom)
    lean = lean_texts(model)
    assert lean is not None
    tokens = torch.randint(8, 400, (4, 12), generator=torch.Generator().manual_seed(1))
    for row, end in enumerate((11, 4, 1, 7)):
        tokens[row, end] = 7 if text.get("pool_type") == "eos" else 49_000
        tokens[row, end + 1 :] = 0
    np.testing.assert_allclose(lean(tokens), model.encode_text(tokens), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "vision",
    [
        {"pool_type": "avg"},
        {"attentional_pool": True, "attn_pooler_heads": 2},
        {"qk_norm": True},
        {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"},
    ],
)
def test_towers_that_have_no_lean_form(vision: dict[str, Any]) -> None:
    assert lean_images(clip(vision, {}).visual, TOWER) is None


def test_texts_that_have_no_lean_form() -> None:
    masked = clip({}, {"no_causal_mask": True}, custom=True)
    masked.text.use_pad_mask = True
    assert lean_texts(masked) is None
    assert lean_texts(clip({}, {"embed_cls": True}, custom=True)) is None
    assert lean_texts(nn.Identity()) is None


def flops(module: nn.Module, rows: torch.Tensor) -> int:
    torch.backends.mha.set_fastpath_enabled(False)  # which the counter does not see
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            module(rows)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return int(counter.get_total_flops())


def test_fewer_products() -> None:
    """Of the last of 3 blocks all but keys and values is done for one token of 17."""
    model = clip({}, {})
    assert flops(ImageGraph(model.visual, TOWER), PIXELS) < 0.77 * flops(model.visual, SCALED)
    tokens = torch.full((3, 12), 49_000)
    plain = TextGraph(model, trimmable=True)
    lean_flops = flops(plain, tokens)
    plain.lean = None
    assert lean_flops < 0.77 * flops(plain, tokens)


def test_operators_that_every_runtime_has(full: Bundle) -> None:
    import onnx

    for file in (full.image_path, full.text_path):
        model = onnx.load(str(file))
        assert [entry.domain for entry in model.opset_import] == [""]
        kinds = [node.op_type for node in model.graph.node]
        # Of a traced nn.MultiheadAttention there are dozens of layouts for each block.
        assert kinds.count("Transpose") <= 2 * 4 + 2
        assert kinds.count("Gelu") == 2
        assert not {"Erf", "Conv"} & set(kinds)


class Plain(nn.Module):
    """What a newcomer exports: open_clip's tower between scaling and norm."""

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        mean, std = torch.tensor(TOWER.mean) * 255, torch.tensor(TOWER.std) * 255
        return F.normalize(self.visual(((pixels.float() - mean) / std).permute(0, 3, 1, 2)), dim=-1)


def test_the_graph_gives_the_vectors_of_a_plain_export(tmp_path: Path) -> None:
    visual = clip({}, {}).visual
    given = Input("pixels", PIXELS[:2], {0: "batch"})
    found, expected = (
        open_runner(write_onnx(graph, given, 24), "pixels")(PIXELS.numpy())
        for graph in (ImageGraph(visual, TOWER), Plain(visual))
    )
    np.testing.assert_allclose(found, expected, atol=2e-6)
