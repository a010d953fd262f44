"""Reading a configuration from its layers, explaining what is wrong with it, and printing it."""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsError

from nearlight.server.config import ENV_NESTING, ENV_PREFIX, ServerConfig
from nearlight.server.errors import ConfigError


def load_config(file: Path | None, flags: Mapping[str, Any]) -> ServerConfig:
    """The configuration of defaults < file < environment < flags.

    Args:
        file: TOML, or None.
        flags: nested like the configuration; only what the user gave.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a wrong value, one line each.
    """
    written = _read_toml(file) if file else {}
    _refuse_unknown_environment()

    class Layered(ServerConfig):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=written)

    try:
        return Layered(**flags)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error))) from None
    except SettingsError as error:
        raise ConfigError(f"environment: {error}") from None


def flag_layer(given: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Flags, nested like the configuration.

    Args:
        given: "section.key" to value; None was not given.
        settings: "section.key=value" with a TOML value; a bare word is a string.

    Raises:
        ConfigError: a setting without "=".
    """
    values = {key: value for key, value in given.items() if value is not None}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: it must be KEY=VALUE")
        values[key.strip()] = _toml_literal(text.strip())
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested


def _toml_literal(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None


def _refuse_unknown_environment() -> None:
    """A mistyped variable would otherwise be ignored without a word."""
    known = {ENV_PREFIX + ENV_NESTING.join(path).upper() for path in _key_paths(ServerConfig)}
    sections = {ENV_PREFIX + name.upper() for name in _sections(ServerConfig)}
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in known | sections:
            raise ConfigError(f"unknown variable {name}{_nearest(name.upper(), known)}")


def _explain(error: ValidationError) -> Iterator[str]:
    """One line for each thing that is wrong."""
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        if item["type"] == "extra_forbidden":
            known = {".".join(key) for key in _key_paths(ServerConfig)} | set(_sections(ServerConfig))
            yield f"unknown key {'.'.join(path)}{_nearest('.'.join(path), known)}"
        else:
            given = (
                "" if "tokens" in path or isinstance(item["input"], dict) else f" (given: {item['input']!r})"
            )
            yield f"{'.'.join(path) or 'configuration'}: {item['msg'].removeprefix('Value error, ')}{given}"


def _nearest(name: str, known: set[str]) -> str:
    """A hint to append: the known name closest to this one, or "" where nothing is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Name to class of the nested sections."""
    kinds = {name: field.annotation for name, field in model.model_fields.items()}
    return {
        name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)
    }


def _key_paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Paths of all keys: ("listen",), ("limits", "max_message_bytes"), and so on."""
    sections = _sections(model)
    for name in model.model_fields:
        if name in sections:
            yield from ((name, *path) for path in _key_paths(sections[name]))
        else:
            yield (name,)


def as_toml(config: ServerConfig) -> str:
    """The configuration as TOML that `--config` reads back; tokens are left out, a comment says so."""
    lines: list[str] = []
    tables: list[tuple[str, BaseModel]] = []
    for name in ServerConfig.model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            tables.append((name, value))
        else:
            lines.append(_toml_line(name, value))
    for name, table in tables:
        lines += ["", f"[{name}]"]
        lines += [_toml_line(key, getattr(table, key)) for key in type(table).model_fields]
    return "\n".join(lines) + "\n"


def _toml_line(key: str, value: Any) -> str:
    if value is None:
        return f"# {key} is not set"
    if isinstance(value, SecretStr):
        return f"# {key} is set, not shown"
    if isinstance(value, tuple) and any(isinstance(item, SecretStr) for item in value):
        return f"# {key}: {len(value)} set, not shown"
    return f"{key} = {_toml_value(value)}"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
