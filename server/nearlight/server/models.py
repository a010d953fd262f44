"""The models in service: bundles loaded, warmed, and wired from arrival to engine."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nearlight.bundle.errors import BundleError
from nearlight.bundle.folder import Bundle
from nearlight.bundle.golden import check_tokens, load_golden
from nearlight.bundle.image import ImageLimits, ImageProfile
from nearlight.bundle.manifest import Manifest
from nearlight.bundle.registry import find_bundle
from nearlight.bundle.text import Tokenizer
from nearlight.server.admission import Admission
from nearlight.server.batcher import Batcher
from nearlight.server.call import Prepare, Route, TowerKind
from nearlight.server.config import ServerConfig
from nearlight.server.cost import CostModel, measure
from nearlight.server.decode import image_preparation
from nearlight.server.errors import BundleUnusable
from nearlight.server.model_names import ModelNames
from nearlight.server.patience import Patience
from nearlight.server.supervisor import Supervisor
from nearlight.server.tokenise import text_preparation
from nearlight.server.tower_engine import TowerEngine, open_tower_engine


class Tower:
    """One encoder in service: how its inputs are prepared, admitted and batched.

    Args:
        name: of model and tower, such as "nearlight-tiny/image".
        engine: its sessions, loaded and warmed.
        prepare: from inputs to rows.
        queue_inputs: most inputs inside at once, of single calls; as many of bulk calls, and of streams.
        interactive_weight: see `LaneQueue`.
        supervisor: watches the sessions.
    """

    def __init__(
        self,
        name: str,
        engine: TowerEngine,
        prepare: Prepare,
        *,
        queue_inputs: int,
        interactive_weight: float,
        supervisor: Supervisor,
    ) -> None:
        self.name = name
        # Not the encoders themselves: they belong to their sessions, which may replace them.
        self.facts = engine.encoder.facts
        self.devices = list(dict.fromkeys(encoder.facts.device for encoder in engine.encoders))
        max_batch, costs = engine.max_batch, _costs(engine)

        def input_s() -> float:
            return costs.input_s(max_batch) / max(1, self.batcher.alive)

        def room(label: str) -> Admission:
            full_batch = max_batch * len(engine.encoders)
            return Admission(label, queue_inputs, full_batch=full_batch, engine_s=input_s)

        # Rooms of their own: bulk work that fills its room must not shut single calls out, nor they it.
        self._calls, self._bulk, self._streams = room(name), room(f"{name} (bulk)"), room(f"{name} (streams)")
        self.batcher = Batcher(
            name,
            *engine.encoders,
            max_batch=max_batch,
            supervisor=supervisor,
            renew=engine.reopen,
            costs=costs,
            interactive_weight=interactive_weight,
            shares_cores=self.facts.shares_cores,
        )
        self.route = Route(
            prepare, self.batcher.put, expect=self.batcher.expect, give_up=self.batcher.give_up
        )

    def admission(self, patience: Patience) -> Admission:
        """The room that a caller's inputs take."""
        if patience.waits_for_room:
            return self._streams
        return self._bulk if patience.lane == "bulk" else self._calls


@dataclass(frozen=True, slots=True, weakref_slot=True)
class LoadedModel:
    """A bundle in service. A call holds its model until it ends: see `Retirement`.

    Args:
        manifest: what the bundle says of itself.
        towers: by kind; an image-only encoder has no "text".
        loaded_unix_ms: when it became ready.
        image_profile: how images are prepared where a call does not say.
        folder: of its bundle.
    """

    manifest: Manifest
    towers: Mapping[TowerKind, Tower]
    loaded_unix_ms: int
    image_profile: ImageProfile = "exact"
    folder: Path = Path()

    @property
    def name(self) -> str:
        """Its name on this server."""
        return self.manifest.name

    @property
    def space_id(self) -> str:
        """Vectors are comparable only where this is equal."""
        return self.manifest.space_id

    @property
    def is_alive(self) -> bool:
        """Whether every stage works."""
        return not any(tower.batcher.is_dead for tower in self.towers.values())

    def close(self) -> None:
        """End its threads; what waits is refused."""
        for tower in self.towers.values():
            tower.batcher.close()


class Models:
    """The loaded models by name and alias; the first added is the default. Empty while the server loads."""

    def __init__(self) -> None:
        self.names = ModelNames()
        self._by_name: dict[str, LoadedModel] = {}

    def add(self, model: LoadedModel, aliases: Sequence[str] = (), *, make_default: bool = False) -> None:
        """Put a model into service, point aliases to it, make it the default: all or nothing.

        Raises:
            AlreadyExists: its name is taken, or an alias is the name of a model.
        """
        self.names.check_free(model.name, aliases)
        self._by_name[model.name] = model
        self.names.add(model.name, aliases, make_default=make_default)

    def remove(self, name: str) -> LoadedModel:
        """Take a model out of service; calls that hold it go on.

        Raises:
            NotFound: no model has this name.
            NotPossible: it is the default and not the only one, or an alias points to it.
        """
        self.names.remove(name)
        return self._by_name.pop(name)

    @property
    def default(self) -> LoadedModel:
        """The model that answers calls which name none.

        Raises:
            NotFound: none is loaded.
        """
        return self.get("")

    def get(self, name: str) -> LoadedModel:
        """A model by name or alias, the default for "".

        Raises:
            NotFound: no such model.
        """
        return self._by_name[self.names.resolve(name)]

    def all(self) -> list[LoadedModel]:
        """Every model, by name."""
        return [model for _, model in sorted(self._by_name.items())]

    def of_space(self, space_id: str) -> LoadedModel | None:
        """A model whose vectors are of this space, or None."""
        return next((model for model in self._by_name.values() if model.space_id == space_id), None)

    def close(self) -> None:
        """End every model's threads."""
        for model in self._by_name.values():
            model.close()


def open_bundles(names: Sequence[str]) -> list[Bundle]:
    """Find and verify bundles, cheaply, before anything is loaded.

    Args:
        names: folders or names of shipped bundles; none: the default bundle.

    Raises:
        BundleUnusable: one is missing or broken, or two have one name.
    """
    try:
        paths = [find_bundle(name) for name in names] or [find_bundle()]
        bundles = [Bundle.open(path) for path in paths]
    except BundleError as error:
        raise BundleUnusable(str(error)) from error
    seen: dict[str, Path] = {}
    for bundle in bundles:
        name = bundle.manifest.name
        if name in seen:
            raise BundleUnusable(f"two bundles are named {name!r}: {seen[name]} and {bundle.path}")
        seen[name] = bundle.path
    return bundles


def load_model(bundle: Bundle, config: ServerConfig, supervisor: Supervisor) -> LoadedModel:
    """Load and warm both towers of a bundle. Takes seconds.

    Raises:
        BundleUnusable: the engine refuses it.
    """
    towers: dict[TowerKind, Tower] = {"image": _image_tower(bundle, config, supervisor)}
    if bundle.manifest.towers.text is not None:
        towers["text"] = _text_tower(bundle, config, supervisor)
    return LoadedModel(
        bundle.manifest, towers, int(time.time() * 1000), config.engine.image_profile, bundle.path.resolve()
    )


def image_limits(config: ServerConfig) -> ImageLimits:
    """The configured limits in the bundle room's words."""
    return ImageLimits(max_bytes=config.limits.max_image_bytes, max_pixels=config.limits.max_image_pixels)


def _image_tower(bundle: Bundle, config: ServerConfig, supervisor: Supervisor) -> Tower:
    engine = open_tower_engine(bundle, "image", config)
    return Tower(
        f"{bundle.manifest.name}/image",
        engine,
        image_preparation(
            bundle.manifest.towers.image.preprocess, image_limits(config), config.engine.image_profile
        ),
        queue_inputs=config.limits.queue_inputs,
        interactive_weight=config.batching.interactive_weight,
        supervisor=supervisor,
    )


def _text_tower(bundle: Bundle, config: ServerConfig, supervisor: Supervisor) -> Tower:
    engine = open_tower_engine(bundle, "text", config)
    return Tower(
        f"{bundle.manifest.name}/text",
        engine,
        text_preparation(
            _tokenizer(bundle),
            lengths=engine.text_lengths,
            max_bytes=config.limits.max_text_bytes,
        ),
        queue_inputs=config.limits.queue_inputs,
        interactive_weight=config.batching.interactive_weight,
        supervisor=supervisor,
    )


def _costs(engine: TowerEngine) -> CostModel:
    graph = engine.graph
    return measure(engine.encoder, graph.row_shapes, graph.dtype, max_batch=engine.max_batch)


def _tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer, seen to make the same tokens here as where the bundle was written."""
    try:
        tokenizer, golden = bundle.tokenizer(), load_golden(bundle)
        if golden:
            check_tokens(tokenizer, golden)
    except BundleError as error:
        raise BundleUnusable(f"{bundle.path}: {error}") from error
    return tokenizer
