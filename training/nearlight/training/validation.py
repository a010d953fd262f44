"""The metrics of validation data during training."""

from collections.abc import Sequence

from torch import nn

from nearlight.training.captions import load_templates
from nearlight.training.config import RunConfig
from nearlight.training.evaluation import evaluate_sources
from nearlight.training.method import Method
from nearlight.training.probes.features import EncoderFeatures
from nearlight.training.probes.knn import knn
from nearlight.training.sources import Source, open_source
from nearlight.training.vocabulary import open_tokenizer


def validate(
    method: Method, config: RunConfig, train: Sequence[Source], tokenizer_json: str | None
) -> dict[str, dict[str, float]]:
    """Returns metrics by source: zero-shot or retrieval of towers, kNN of an encoder.

    Args:
        method: in evaluation mode.
        config: of the run.
        train: the training data, the bank of kNN.
        tokenizer_json: of the text tower; None for an encoder.
    """
    if tokenizer_json is not None:
        towers: nn.Module = method.get_submodule("towers")
        sources = [open_source(spec) for spec in config.data.val]
        templates = load_templates(config.data.templates)
        return evaluate_sources(
            towers, config.model, open_tokenizer(tokenizer_json, config.model), sources, templates
        )
    features = EncoderFeatures(method.get_submodule(method.exported), config.encoder)
    found = {}
    for spec in config.data.val:
        query = open_source(spec, words=False)
        bank = next((s for s in train if s.label_names is not None), None)
        if query.label_names is not None and bank is not None:
            found[query.name] = knn(features, bank, query)
    return found
