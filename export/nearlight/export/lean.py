"""open_clip's transformers in fewer steps, with the same result, in operators that every runtime has.

A graph traced from open_clip's modules does what this does not: move activations between layouts around each
attention, scale queries and keys apart, scale the channels of pixels before patches are projected, and
compute in the last block what no one reads. A tower that is pooled at one token needs of that block only this
token's query and its way through the MLP: with 12 blocks that is 7 % of all products.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, TextTransformer, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.bundle.manifest import ImageTower

Pick = Callable[[Tensor], Tensor]

_MIDDLE = 128.0


class LeanAttention(nn.Module):
    """Self-attention with the weights of `nn.MultiheadAttention`, its scale inside those of the queries."""

    def __init__(self, given: nn.MultiheadAttention, *, picks: bool) -> None:
        super().__init__()
        width, self.heads = given.embed_dim, given.num_heads
        weight, bias = given.in_proj_weight.detach().clone(), given.in_proj_bias.detach().clone()
        weight[:width] *= (width // self.heads) ** -0.5
        bias[:width] *= (width // self.heads) ** -0.5
        parts = [0, width, 3 * width] if picks else [0, 3 * width]
        self.projections = nn.ModuleList(
            _linear(weight[low:high], bias[low:high]) for low, high in zip(parts, parts[1:], strict=False)
        )
        self.out = given.out_proj

    def forward(self, rows: Tensor, queries: Tensor | None, mask: Tensor | None) -> Tensor:
        """Rows (B, L, W) attended by themselves, or by queries (B, Q, W): (B, L or Q, W)."""
        width = rows.shape[2]
        if queries is None:
            query, key, value = torch.split(_flat(self.projections[0], rows), width, dim=-1)
        else:
            query = _flat(self.projections[0], queries)
            key, value = torch.split(_flat(self.projections[1], rows), width, dim=-1)
        scores = self._heads(query, (0, 2, 1, 3)) @ self._heads(key, (0, 2, 3, 1))  # (B, H, Q, L)
        if mask is not None:
            scores = scores + mask
        mixed = scores.softmax(dim=-1) @ self._heads(value, (0, 2, 1, 3))  # (B, H, Q, W / H)
        return _flat(self.out, mixed.permute(0, 2, 1, 3).reshape(query.shape))

    def _heads(self, x: Tensor, order: tuple[int, int, int, int]) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads).permute(order)


class LeanTransformer(nn.Module):
    """The blocks of a transformer that is pooled at one token."""

    def __init__(self, blocks: Sequence[Any]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        last = len(blocks) - 1
        self.attentions = nn.ModuleList(
            LeanAttention(block.attn, picks=index == last) for index, block in enumerate(blocks)
        )

    def forward(self, x: Tensor, mask: Tensor | None, pick: Pick, picked_mask: Tensor | None) -> Tensor:
        """The token that `pick` takes of (B, L, W), after all blocks: (B, 1, W).

        Args:
            x: (B, L, W).
            mask: (L, L), added to scores; None adds nothing.
            pick: From (B, L, W) to (B, 1, W).
            picked_mask: (B, 1, 1, L), the rows of `mask` that belong to what is picked.
        """
        last = len(self.blocks) - 1
        for index, (given, attention) in enumerate(zip(self.blocks, self.attentions, strict=True)):
            block: Any = given
            rows = block.ln_1(x)
            if index == last:
                x, mask = pick(x), picked_mask
            x = x + block.ls_1(attention(rows, pick(rows) if index == last else None, mask))
            inner = block.mlp.gelu(_flat(block.mlp.c_fc, block.ln_2(x)))
            x = x + block.ls_2(_flat(block.mlp.c_proj, inner))
        return x


class LeanImages(nn.Module):
    """uint8 pixels (B, S, S, 3) to features (B, D), by the weights of open_clip's `VisionTransformer`."""

    def __init__(self, visual: VisionTransformer, tower: ImageTower) -> None:
        super().__init__()
        self.visual = visual
        self.patch_px, self.side = visual.patch_size[0], visual.grid_size[0]
        self.transformer = LeanTransformer(list(visual.transformer.resblocks))
        kernel = visual.conv1.weight.detach()  # (W, 3, p, p)
        mean, std = torch.tensor(tower.mean) * 255, torch.tensor(tower.std) * 255
        scaled = (kernel / std[:, None, None]).permute(0, 2, 3, 1)  # (W, p, p, 3)
        # Bytes around zero: few bits (bf16, int8) then hold what differs, not what all have in common.
        bias = -(kernel.sum(dim=(2, 3)) * ((mean - _MIDDLE) / std)).sum(dim=1)  # (W,)
        self.patches = _linear(scaled.reshape(len(kernel), -1), bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of pixels."""
        visual: Any = self.visual
        count, side, patch = pixels.shape[0], self.side, self.patch_px
        cut = pixels.reshape(count, side, patch, side, patch * 3).permute(0, 1, 3, 2, 4)  # still bytes
        centred = cut.reshape(count, side * side, patch * patch * 3).float() - _MIDDLE
        rows = _flat(self.patches, centred)  # (B, G, W)
        places = visual.positional_embedding
        head = (visual.class_embedding + places[0]).expand(count, 1, -1)  # (B, 1, W)
        x = visual.ln_pre(torch.cat([head, rows + places[1:]], dim=1))  # (B, 1 + G, W)
        x = visual.ln_post(self.transformer(x, None, _first, None)[:, 0])  # (B, W)
        features: Tensor = x if visual.proj is None else x @ visual.proj
        return features  # (B, D)


class LeanTexts(nn.Module):
    """Tokens (B, L) to features (B, D), by the weights of an open_clip text tower."""

    def __init__(self, tower: nn.Module, pool: str, eos_id: int | None) -> None:
        super().__init__()
        self.tower = tower
        self.pool, self.eos_id = pool, eos_id
        blocks: Any = tower.get_submodule("transformer.resblocks")
        self.transformer = LeanTransformer(list(blocks))

    def forward(self, tokens: Tensor) -> Tensor:
        """Features of tokens."""
        tower: Any = self.tower
        count, length = tokens.shape
        x = tower.token_embedding(tokens) + tower.positional_embedding[:length]  # (B, L, W)
        ends = _ends(tokens, self.pool, self.eos_id)  # (B,)

        def pick(rows: Tensor) -> Tensor:
            found: Tensor = rows[torch.arange(count), ends]  # (B, W)
            return found.unsqueeze(1)

        mask, picked = None, None
        if tower.attn_mask is not None:
            mask = tower.attn_mask[:length, :length]  # (L, L)
            picked = mask[ends][:, None, None]  # (B, 1, 1, L)
        x = tower.ln_final(self.transformer(x, mask, pick, picked)[:, 0])  # (B, W)
        projection = tower.text_projection
        features: Tensor = x
        if projection is not None:
            features = projection(x) if isinstance(projection, nn.Linear) else x @ projection
        return features  # (B, D)


def lean_images(visual: nn.Module, tower: ImageTower) -> LeanImages | None:
    """The lean form of an image tower; None where it is built in a way that has none."""
    if type(visual) is not VisionTransformer or visual.attn_pool is not None or visual.pool_type != "tok":
        return None
    if not _is_plain(visual.transformer.resblocks) or visual.patch_size[0] != visual.patch_size[1]:
        return None
    side = tower.preprocess.size_px
    if visual.conv1.bias is not None or visual.grid_size != (side // visual.patch_size[0],) * 2:
        return None
    return None if side % visual.patch_size[0] else LeanImages(visual, tower)


def lean_texts(model: Any) -> LeanTexts | None:
    """The lean form of a model's text tower; None where it is built in a way that has none."""
    tower = getattr(model, "text", model)
    if not _is_plain(getattr(getattr(tower, "transformer", None), "resblocks", ())):
        return None
    if getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False):
        return None
    if isinstance(tower, TextTransformer):
        pool, eos_id = tower.pool_type, tower.eos_id
    else:
        pool, eos_id = tower.text_pool_type, getattr(tower, "text_eos_id", None)
    return LeanTexts(tower, pool, eos_id) if pool in ("argmax", "eos", "first", "last") else None


def _is_plain(blocks: Any) -> bool:
    def plain(block: Any) -> bool:
        attention = getattr(block, "attn", None)
        return (
            type(block) is ResidualAttentionBlock
            and not hasattr(block, "ln_1_kv")
            and type(attention) is nn.MultiheadAttention
            and attention.in_proj_weight is not None
            and attention.in_proj_bias is not None
            and attention.bias_k is None
            and not attention.add_zero_attn
        )

    return len(blocks) > 0 and all(plain(block) for block in blocks)


def _ends(tokens: Tensor, pool: str, eos_id: int | None) -> Tensor:
    """The place at which each row is pooled, as open_clip's `text_global_pool` finds it: (B,)."""
    match pool:
        case "argmax":
            return tokens.argmax(dim=-1)
        case "eos":
            return torch.eq(tokens, -1 if eos_id is None else eos_id).int().argmax(dim=-1)
        case "last":
            return torch.full_like(tokens[:, 0], tokens.shape[1] - 1)
        case _:
            return torch.zeros_like(tokens[:, 0])


def _first(rows: Tensor) -> Tensor:
    return rows[:, :1]


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight, made.bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias.contiguous())
    return made


def _flat(linear: Any, x: Tensor) -> Tensor:
    """A linear layer on (B, L, W) as one product of matrices, which runtimes do together with the bias."""
    rows = F.linear(x.reshape(-1, x.shape[2]), linear.weight, linear.bias)
    return rows.reshape(x.shape[0], x.shape[1], rows.shape[1])
