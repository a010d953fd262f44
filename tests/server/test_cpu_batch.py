from collections.abc import Callable
from pathlib import Path

import pytest

from nearlight.bundle.folder import Bundle
from nearlight.server.config import ServerConfig
from nearlight.server.tower_engine import open_tower_engine


@pytest.mark.parametrize(
    ("batching", "sizes"), [({}, (8, 16)), ({"max_images": 12, "max_texts": 40}, (12, 40))]
)
def test_batches_of_a_cpu_are_small_unless_they_are_set(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    batching: dict[str, int],
    sizes: tuple[int, int],
) -> None:
    config, bundle = config_of([tiny_bundle], tmp_path, batching=batching), Bundle.open(tiny_bundle)
    assert open_tower_engine(bundle, "image", config).max_batch == sizes[0]
    assert open_tower_engine(bundle, "text", config).max_batch == sizes[1]
