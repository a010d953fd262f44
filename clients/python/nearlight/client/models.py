"""Plans of loading, unloading and renaming models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from nearlight.client import convert
from nearlight.client.methods import LOAD_MODEL, UNLOAD_MODEL, UPDATE_MODEL_ALIASES
from nearlight.client.plan import Plan, ask
from nearlight.client.values import ModelInfo
from nearlight.v1 import model_pb2

# A large model takes a minute to load, and calls in flight may hold a leaving one: longer than a usual call.
PATIENCE_SECONDS = 600.0


class UnloadModelOptions(TypedDict, total=False):
    """Options of ``unload_model``. timeout: seconds, default ten minutes."""

    timeout: float | None


class LoadModelOptions(UnloadModelOptions, total=False):
    """Options of ``load_model``, whose ``bundle`` is a folder on the server or the name of a shipped bundle.

    The server loads only from folders that its configuration names.
    name: to serve it under, default the bundle's own. aliases: made or moved to it once it is ready, all at
    once with the default. make_default: it answers calls that name no model.
    """

    name: str
    aliases: Sequence[str]
    make_default: bool


class AliasChanges(TypedDict, total=False):
    """Changes of ``update_model_aliases``; none: the aliases are only told.

    aliases: to names of loaded models; made, or moved there. deleted: aliases to forget. default_model: name
    of the model that answers calls which name none. timeout: seconds.
    """

    aliases: Mapping[str, str]
    deleted: Sequence[str]
    default_model: str
    timeout: float | None


def patience(options: UnloadModelOptions) -> float:
    """Returns the seconds to wait for a model to come or go."""
    return options.get("timeout") or PATIENCE_SECONDS


def load_model(bundle: str, options: LoadModelOptions) -> Plan[ModelInfo]:
    """Loads a bundle from the server's disk."""
    request = model_pb2.LoadModelRequest(
        bundle=convert.text_for_wire(bundle),
        name=convert.text_for_wire(options.get("name", "")),
        aliases=[convert.text_for_wire(alias) for alias in options.get("aliases", ())],
        make_default=options.get("make_default", False),
    )
    return convert.model_from_wire((yield from ask(LOAD_MODEL(request))))


def unload_model(name: str) -> Plan[None]:
    """Takes a model out of service."""
    yield from ask(UNLOAD_MODEL(model_pb2.UnloadModelRequest(name=convert.text_for_wire(name))))


def update_model_aliases(changes: AliasChanges) -> Plan[dict[str, str]]:
    """Makes, moves and deletes aliases, and names the default model."""
    aliases = changes.get("aliases", {})
    request = model_pb2.UpdateModelAliasesRequest(
        aliases={convert.text_for_wire(a): convert.text_for_wire(name) for a, name in aliases.items()},
        deleted=[convert.text_for_wire(alias) for alias in changes.get("deleted", ())],
        default_model=convert.text_for_wire(changes.get("default_model", "")),
    )
    return dict((yield from ask(UPDATE_MODEL_ALIASES(request))).aliases)
