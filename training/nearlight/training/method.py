"""What a contrastive method is, and how one is found.

A method is one file in `methods/`; its id is the file's name with `-` for `_`. It says which recipe it
starts from, how views become vectors (`embed`), how vectors become a loss (`loss`), and what it keeps
between steps (its buffers, `after_step`). The trainer knows nothing else about it. `embed` and `loss`
are apart so that the trainer can stand between them: it gathers the vectors of all processes, and
encodes chunk by chunk with the gradients of the whole batch.
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nearlight.training.batches import Batch
from nearlight.training.catalogue import method_files
from nearlight.training.errors import ConfigError
from nearlight.training.sections import RunConfig, Section
from nearlight.training.views import make_views

Vectors = dict[str, Tensor]
"""What `embed` makes: each (B, ...), row i of image i."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a method may need to know of the training data before it is built."""

    samples: int
    classes: tuple[str, ...] = ()
    """Sorted class names; a label is a place in them. Empty where a source has no class names."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of the images a loss is of."""

    step: int
    index: Tensor
    """(B,) int64, the place of each image in the training data."""
    labels: Tensor
    """(B,) int64, its class; -1 where there is none."""
    groups: Tensor
    """(B,) int64, equal numbers are positives of one another (image and text)."""


class Method(nn.Module):
    """A contrastive method of images alone; those of images and texts build on it too."""

    recipe: ClassVar[Mapping[str, Any]] = {}
    """The defaults of its configuration, as a tree of `RunConfig`."""
    needs_labels: ClassVar[bool] = False
    towers_kind: ClassVar[Literal["encoder", "towers"]] = "encoder"
    exported: ClassVar[str] = "encoder"
    """The attribute whose module is evaluated and exported: (B, 3, S, S) normalised → (B, D)."""
    exported_head: ClassVar[str | None] = None
    """The attribute whose module comes after it, (B, D) → (B, P); thrown away by export unless asked."""

    class Options(Section):
        """What only this method can be told."""

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__()
        self.config = config
        self.facts = facts
        if self.needs_labels and len(facts.classes) < 2:
            raise ConfigError(
                f"{config.method} needs a label_name for each image and at least two classes; "
                f"the training data has {len(facts.classes)}"
            )

    def views(self, batch: Batch, generator: torch.Generator) -> list[Tensor]:
        """Returns the views of a batch's images, each (B, 3, s, s), normalised."""
        return make_views(batch.pixels, self.config.views, self.config.encoder, generator, batch.share)

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns what the loss needs of some images; must not depend on other images, batch norms apart."""
        raise NotImplementedError

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of the whole batch and what is worth logging."""
        raise NotImplementedError

    def after_backward(self, step: int) -> None:
        """Changes gradients before the optimiser's step."""

    def after_step(self, step: int) -> None:
        """Brings up to date what is kept between steps, after the optimiser's."""

    def steady(self) -> Iterable[nn.Module]:
        """Modules whose learning rate stays at its peak."""
        return ()

    def cautions(self) -> Iterable[str]:
        """Returns a line for each option that is allowed but hardly meant with this data."""
        return ()

    def watched(self, vectors: Vectors) -> Tensor | None:
        """Returns the (B, D) vectors in which a collapse would show: the first of `embed`'s, if any."""
        return next((v for v in vectors.values() if v.ndim == 2 and v.is_floating_point()), None)

    def progress(self, step: int) -> float:
        """Returns the share of the run done before a step, 0 to 1."""
        return min(step / max(self.config.steps, 1), 1.0)

    def option(self, name: str) -> Any:
        """Returns one of the method's own options."""
        return self.config.options[name]


def find_method(name: str) -> type[Method]:
    """Returns the class of a method.

    Raises:
        ConfigError: there is none of this id; the nearest is named.
    """
    files = method_files()
    if name not in files:
        nearest = difflib.get_close_matches(name, files, n=1, cutoff=0.0)[0]
        raise ConfigError(f"there is no method {name!r}; did you mean {nearest!r}? One of {', '.join(files)}")
    module = importlib.import_module(f"nearlight.training.methods.{files[name].stem}")
    found = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ConfigError(f"{files[name].name} must define one Method; it defines {len(found)}")
    return found[0]
