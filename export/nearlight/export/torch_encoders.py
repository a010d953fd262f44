"""A model in torch as encoders: open_clip's two-tower classes, or one image tower."""

import hashlib
from typing import Any

import numpy as np
import torch
from onnx import ModelProto
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.bundle.image import Pixels
from nearlight.bundle.manifest import ImageTower, TextTower
from nearlight.bundle.text import Tokens
from nearlight.export.graphs import ImageGraph, TextGraph, features_of
from nearlight.export.onnx_writer import Input, write_onnx
from nearlight.export.subject import Vectors


class ImageOnly(nn.Module):
    """A model that is an image tower and nothing else."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual


class TorchEncoders:
    """A torch model in evaluation mode on the CPU.

    Attributes:
        model: Has `visual`, and with a text tower `encode_text` as open_clip's classes do.
        image: Channel scaling.
        text: Sequence; None without a text tower.
    """

    def __init__(self, model: nn.Module, image: ImageTower, text: TextTower | None) -> None:
        self.model = model.eval()
        self.image = image
        self.text = text

    @torch.inference_mode()
    def embed_images(self, pixels: Pixels) -> Vectors:
        """Unit vectors (B, D); channels are scaled as torchvision does it."""
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
        mean = torch.tensor(self.image.mean)[:, None, None]
        std = torch.tensor(self.image.std)[:, None, None]
        model: Any = self.model
        return _unit(features_of(model.visual((images - mean) / std)))

    @torch.inference_mode()
    def embed_texts(self, tokens: Tokens) -> Vectors:
        """Unit vectors (B, D)."""
        model: Any = self.model
        return _unit(model.encode_text(torch.from_numpy(tokens)))

    def weights(self) -> tuple[int, int]:
        """Numbers in the image tower and in the text tower; CoCa's captioner is not exported."""
        visual = self.model.visual
        assert isinstance(visual, nn.Module)
        named = [(name, weight.numel()) for name, weight in self.model.named_parameters()]
        rest = sum(count for name, count in named if not name.startswith(("visual.", "text_decoder.")))
        return sum(weight.numel() for weight in visual.parameters()), rest if self.text else 0

    def digest(self) -> str:
        """A hash of the modules and of their weights."""
        seen = hashlib.sha256(repr(self.model).encode())
        for name, weight in sorted(self.model.state_dict().items()):
            seen.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            seen.update(weight.detach().contiguous().flatten().view(torch.uint8).numpy())
        return seen.hexdigest()

    def image_onnx(self) -> ModelProto:
        """The image graph. Branches that timm keeps apart for training (FastViT, RepVGG) are merged first."""
        side = self.image.preprocess.size_px
        given = Input("pixels", torch.zeros((2, side, side, 3), dtype=torch.uint8), {0: "batch"})
        visual = self.model.visual
        assert isinstance(visual, nn.Module)
        return write_onnx(ImageGraph(reparameterize_model(visual), self.image), given, self._dim())

    def text_onnx(self) -> ModelProto:
        """The text graph; its length varies where that is exact."""
        assert self.text is not None
        tower = self.text
        length = max(2, tower.context_length // 2) if tower.trimmable else tower.context_length
        example = torch.full((3, length), tower.pad_id, dtype=torch.int64)
        example[:, -1] = tower.eot_id or 0
        varying = {0: "batch", 1: "length"} if tower.trimmable else {0: "batch"}
        return write_onnx(
            TextGraph(self.model, tower.trimmable), Input("tokens", example, varying), self._dim()
        )

    def _dim(self) -> int:
        side = self.image.preprocess.size_px
        return int(self.embed_images(np.zeros((1, side, side, 3), np.uint8)).shape[1])


def _unit(features: Tensor) -> Vectors:
    vectors: Vectors = F.normalize(features.float(), dim=-1).numpy()  # (B, D)
    return vectors
