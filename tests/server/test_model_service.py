from typing import Any

import grpc
import pytest

from nearlight.v1 import model_pb2


def test_models_are_listed_with_limits_and_the_first_is_the_default(stubs: Any) -> None:
    reply = stubs.models.ListModels(model_pb2.ListModelsRequest())
    assert [model.name for model in reply.models] == ["eye", "sigmoid", "tiny"]
    assert reply.default_model == "tiny"
    assert reply.limits.max_message_bytes == 4_000_000
    assert reply.limits.max_query_limit == 10_000
    assert "JPEG" in reply.limits.image_formats
    assert reply.server_version
    page = stubs.models.ListModels(model_pb2.ListModelsRequest(page_size=2))
    assert [model.name for model in page.models] == ["eye", "sigmoid"]
    rest = stubs.models.ListModels(model_pb2.ListModelsRequest(page_size=2, page_token=page.next_page_token))
    assert [model.name for model in rest.models] == ["tiny"]
    assert rest.next_page_token == ""


def test_a_model_says_what_it_is(stubs: Any) -> None:
    tiny = stubs.models.GetModel(model_pb2.GetModelRequest())
    assert (tiny.name, tiny.dim, tiny.image_px, tiny.context_length) == ("tiny", 16, 32, 77)
    assert list(tiny.towers) == [model_pb2.TOWER_IMAGE, model_pb2.TOWER_TEXT]
    assert tiny.scoring.kind == model_pb2.SCORING_KIND_SOFTMAX
    assert tiny.scoring.logit_scale == 20
    assert tiny.runtime.provider == "CPUExecutionProvider"
    assert (tiny.runtime.precision, tiny.runtime.device) == ("fp32", "cpu")
    assert tiny.runtime.version.startswith("onnxruntime 1.")
    assert tiny.state == model_pb2.MODEL_STATE_READY
    assert tiny.is_default
    assert "a photo of a {}." in tiny.default_templates
    eye = stubs.models.GetModel(model_pb2.GetModelRequest(name="eye"))
    assert list(eye.towers) == [model_pb2.TOWER_IMAGE]
    assert (eye.context_length, eye.is_default) == (0, False)


def test_what_is_refused(stubs: Any) -> None:
    with pytest.raises(grpc.RpcError, match="nobody") as caught:
        stubs.models.GetModel(model_pb2.GetModelRequest(name="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError, match="page_size is 1001") as caught:
        stubs.models.ListModels(model_pb2.ListModelsRequest(page_size=1001))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
