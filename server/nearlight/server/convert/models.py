"""Models and limits on the wire."""

from collections.abc import Sequence

from nearlight.bundle.image import ImageLimits
from nearlight.bundle.manifest import Scoring
from nearlight.bundle.prompts import DEFAULT_TEMPLATES
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.values import json_bytes
from nearlight.server.models import LoadedModel
from nearlight.v1 import model_pb2

_TOWERS = {"image": model_pb2.TOWER_IMAGE, "text": model_pb2.TOWER_TEXT}
_SCORING = {"softmax": model_pb2.SCORING_KIND_SOFTMAX, "sigmoid": model_pb2.SCORING_KIND_SIGMOID}


def limits_message(limits: LimitsConfig) -> model_pb2.Limits:
    """What the server accepts."""
    return model_pb2.Limits(
        max_message_bytes=limits.max_message_bytes,
        max_batch_inputs=limits.max_batch_inputs,
        max_image_bytes=limits.max_image_bytes,
        max_image_pixels=limits.max_image_pixels,
        max_text_bytes=limits.max_text_bytes,
        max_payload_bytes=limits.max_payload_bytes,
        max_query_limit=limits.max_query_limit,
        max_batch_queries=limits.max_batch_queries,
        max_labels=limits.max_labels,
        max_templates=limits.max_templates,
        max_stream_in_flight=limits.max_stream_in_flight,
        image_formats=ImageLimits().formats,
        max_block_points=limits.max_block_points,
    )


def model_message(
    model: LoadedModel, limits: LimitsConfig, *, is_default: bool, aliases: Sequence[str]
) -> model_pb2.ModelInfo:
    """A loaded model."""
    manifest = model.manifest
    text = manifest.towers.text
    tower = model.towers["image"]
    engine = tower.facts
    return model_pb2.ModelInfo(
        name=model.name,
        aliases=aliases,
        space_id=model.space_id,
        dim=manifest.dim,
        towers=[_TOWERS[kind] for kind in ("image", "text") if kind in model.towers],
        image_px=manifest.towers.image.preprocess.size_px,
        context_length=text.context_length if text else 0,
        limits=limits_message(limits),
        scoring=_scoring_message(manifest.scoring) if manifest.scoring else None,
        runtime=model_pb2.Runtime(
            provider=engine.provider,
            device=",".join(tower.devices),
            version=engine.version,
            threads=engine.threads,
            sessions=len(tower.batcher.sessions),
            precision=engine.precision,
        ),
        precision=manifest.precision,
        state=model_pb2.MODEL_STATE_READY if model.is_alive else model_pb2.MODEL_STATE_FAILED,
        is_default=is_default,
        licence=manifest.licence,
        description=manifest.description,
        metrics_json=json_bytes(manifest.metrics),
        loaded_unix_ms=model.loaded_unix_ms,
        default_templates=list(DEFAULT_TEMPLATES) if text else [],
        bundle_format_version=manifest.format_version,
    )


def _scoring_message(scoring: Scoring) -> model_pb2.Scoring:
    return model_pb2.Scoring(
        kind=_SCORING[scoring.kind], logit_scale=scoring.logit_scale, logit_bias=scoring.logit_bias
    )
