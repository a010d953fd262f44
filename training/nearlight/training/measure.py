"""`nearlight evaluate`: one task on a run or a bundle, printed and saved."""

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nearlight.bundle.folder import Bundle
from nearlight.bundle.registry import find_bundle
from nearlight.training.captions import load_templates
from nearlight.training.checkpoint import load_model, save_text
from nearlight.training.errors import ConfigError, DataError
from nearlight.training.evaluation import Embedder, TorchEmbedder, retrieval, zero_shot
from nearlight.training.pixels import PixelReader
from nearlight.training.probes.probed import Limits
from nearlight.training.probes.tasks import TASKS, probe
from nearlight.training.report import write_report
from nearlight.training.sources import Source, open_source
from nearlight.training.vocabulary import open_tokenizer

Vectors = npt.NDArray[np.float32]
_BATCH = 64
PROTOCOLS = {
    "zeroshot": "class names in the templates, unit mean of unit vectors; preprocessed as the server does",
    "retrieval": "recall@k over all images and captions of the source, both ways (Karpathy and Fei-Fei 2015)",
}


def measure(
    model: str,
    task: str,
    data: Sequence[str],
    templates: str | None,
    out: Path | None,
    bank: Sequence[str] = (),
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Returns and saves the metrics of a task on each source.

    Args:
        model: a run folder, or a bundle by path or name.
        task: `zeroshot` or `retrieval`, or one of `probes.tasks.TASKS`.
        data: sources.
        templates: `FILE[#NAME]`, or None for a run's own, else the built-in list.
        out: a JSON file; None saves `evaluation-TASK.json` in a run folder, or here for a bundle.
        bank: labelled sources that probes learn from; empty: what a run was trained on.
        limits: how much the probes look at.

    Raises:
        ConfigError: an unknown task, or one that the model does not suit.
        DataError: a source that does not suit the task.
    """
    if task not in (*PROTOCOLS, *TASKS):
        nearest = difflib.get_close_matches(task, (*PROTOCOLS, *TASKS), n=1, cutoff=0.0)[0]
        known = ", ".join((*PROTOCOLS, *TASKS))
        raise ConfigError(f"--task is {task!r}; did you mean {nearest!r}? It must be one of {known}")
    if task in TASKS:
        return _save(probe(model, task, data, bank, limits), out or _default_file(model, task))
    prompts = templates
    if (Path(model) / "checkpoint.pt").is_file():
        run = load_model(Path(model))
        embedder: Embedder = TorchEmbedder(
            run.model, run.config.model, open_tokenizer(run.tokenizer_json, run.config.model)
        )
        prompts = templates or run.config.data.templates
        out = out or Path(model) / f"evaluation-{task}.json"
    else:
        onnx = OnnxEmbedder.open(find_bundle(model))
        embedder = onnx
        out = out or Path(f"evaluation-{onnx.bundle.manifest.name}-{task}.json")
    tasks: dict[str, Callable[[Source], dict[str, float]]] = {
        "zeroshot": lambda source: zero_shot(embedder, source, load_templates(prompts)),
        "retrieval": lambda source: retrieval(embedder, source),
    }
    results = {source.name: tasks[task](source) for source in map(open_source, data)}
    found = {
        "model": model,
        "task": task,
        "protocol": PROTOCOLS[task],
        "templates": prompts or "built-in",
        "results": results,
    }
    return _save(found, out)


def _save(found: dict[str, Any], out: Path) -> dict[str, Any]:
    found["saved_to"] = str(out)
    save_text(out, json.dumps(found, indent=2) + "\n")
    if (out.parent / "checkpoint.pt").is_file():
        write_report(out.parent)
    return found


def _default_file(model: str, task: str) -> Path:
    if (Path(model) / "checkpoint.pt").is_file():
        return Path(model) / f"evaluation-{task}.json"
    return Path(f"evaluation-{find_bundle(model).name}-{task}.json")


@dataclass(frozen=True, slots=True)
class OnnxEmbedder:
    """The towers of a bundle on ONNX Runtime's CPU provider."""

    bundle: Bundle
    image_session: Any
    text_session: Any

    @classmethod
    def open(cls, path: Path) -> "OnnxEmbedder":
        """Opens a bundle folder.

        Raises:
            BundleError: it is no sound bundle.
            ConfigError: onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError(
                "measuring a bundle needs onnxruntime: pip install 'nearlight[export]'"
            ) from None
        bundle = Bundle.open(path)

        def session(file: Path) -> Any:
            return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

        text = session(bundle.text_path) if bundle.text_path else None
        return cls(bundle, session(bundle.image_path), text)

    def images(self, source: Source) -> Vectors:
        """Returns unit vectors (N, D) of all images of a source."""
        preprocess = self.bundle.manifest.towers.image.preprocess
        reader = PixelReader(source, preprocess, threads=2, keep=False)
        parts = []
        for start in range(0, len(source), _BATCH):
            pixels = reader.read(np.arange(start, min(start + _BATCH, len(source))))
            parts.append(self.image_session.run(["vectors"], {"pixels": pixels})[0])
        reader.close()
        return np.concatenate(parts)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Returns unit vectors (N, D).

        Raises:
            DataError: the bundle has no text tower.
        """
        if self.text_session is None:
            raise DataError(f"{self.bundle.manifest.name} has no text tower; it can only compare images")
        tokenizer = self.bundle.tokenizer()
        parts = [
            self.text_session.run(
                ["vectors"], {"tokens": tokenizer.encode(texts[start : start + _BATCH], trim=True)}
            )[0]
            for start in range(0, len(texts), _BATCH)
        ]
        return np.concatenate(parts)
