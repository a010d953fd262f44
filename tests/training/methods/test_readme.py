import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nearlight.training.batches import BatchMaker
from nearlight.training.config import RunConfig
from nearlight.training.method import DataFacts, Truth
from nearlight.training.pixels import open_readers
from nearlight.training.sources import open_source

README = Path(__file__).parents[3] / "README.md"


def test_the_readmes_method_works_in_forty_lines(tiny: Callable[..., RunConfig]) -> None:
    (block,) = re.findall(r"```python\n(\"\"\"Mine.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(block.splitlines()) <= 40
    names: dict[str, Any] = {"__name__": "mine"}
    exec(block, names)
    config = tiny("simclr")
    options = names["Mine"].Options().model_dump()
    method = names["Mine"](config.model_copy(update={"options": options}), DataFacts(80))
    source = open_source(config.data.train[0])
    readers = open_readers([source], 32, 1, 10)
    batch = BatchMaker(config, [source], readers).make(0)
    generator = torch.Generator().manual_seed(0)
    vectors = method.embed(method.views(batch, generator), batch, generator)
    loss, _ = method.loss(vectors, Truth(0, batch.index, batch.labels, batch.groups), generator)
    loss.backward()
    assert float(loss.detach()) > 0
    assert all(p.grad is not None for p in method.parameters())
