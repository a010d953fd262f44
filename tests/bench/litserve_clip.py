"""The server that somebody would write with LitServe for a CLIP: open_clip in torch bf16, dynamic batches.

Run by `bench_peers` with a Python that has litserve, torch and open_clip: PORT WEIGHTS as arguments.
"""

import base64
import io
import sys
from typing import Any

import litserve  # type: ignore[import-not-found]
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file

MAX_BATCH = 32
BATCH_TIMEOUT_S = 0.01


class Clip(litserve.LitAPI):  # type: ignore[misc]
    """JPEGs as base64 in JSON, vectors as lists."""

    def setup(self, device: str) -> None:
        """Load the model."""
        model, _, self.preprocess = open_clip.create_model_and_transforms("ViT-B-32")
        model.load_state_dict(load_file(sys.argv[2]), strict=False)
        self.model = model.eval().to(torch.bfloat16)

    def decode_request(self, request: dict[str, str]) -> Any:
        """Pixels (3, 224, 224)."""
        return self.preprocess(Image.open(io.BytesIO(base64.b64decode(request["image"]))))

    def batch(self, inputs: list[Any]) -> Any:
        """Pixels (B, 3, 224, 224)."""
        return torch.stack(inputs).to(torch.bfloat16)

    def predict(self, pixels: Any) -> Any:
        """Unit vectors (B, D)."""
        with torch.inference_mode():
            return self.model.encode_image(pixels, normalize=True).float()

    def unbatch(self, output: Any) -> list[Any]:
        """One by one."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        """As JSON."""
        return {"embedding": output.tolist()}


if __name__ == "__main__":
    api = Clip(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S)
    server = litserve.LitServer(api, accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
