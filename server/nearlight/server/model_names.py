"""What the loaded models are called: names, aliases, and which of them is the default."""

from collections.abc import Mapping, Sequence

from nearlight.server.errors import AlreadyExists, NotFound, NotPossible


class ModelNames:
    """Names are looked up by calls on the event loop and changed there too (or while no calls are taken).

    Each change is one step or nothing: a call sees the names before it or after it, never between.
    """

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._aliases: Mapping[str, str] = {}
        self.default = ""

    @property
    def aliases(self) -> Mapping[str, str]:
        """Every alias, to the name of its model."""
        return self._aliases

    def aliases_of(self, name: str) -> list[str]:
        """The aliases of a model, ordered."""
        return sorted(alias for alias, pointed in self._aliases.items() if pointed == name)

    def resolve(self, name: str) -> str:
        """The model's own name, of a name, an alias, or "" for the default.

        Raises:
            NotFound: no such model.
        """
        own = self._aliases.get(name, name) if name else self.default
        if own not in self._names:
            raise NotFound(self._not_loaded(name) if name else "no model is loaded")
        return own

    def check_free(self, name: str, aliases: Sequence[str] = ()) -> None:
        """Whether a model may be added so.

        Raises:
            AlreadyExists: the name is taken, or an alias is the name of a model.
        """
        if name in self._names:
            raise AlreadyExists(f"name {name!r} is taken by a model", field="name")
        if name in self._aliases:
            raise AlreadyExists(f"name {name!r} is taken by an alias", field="name")
        for alias in aliases:
            self._check_alias(alias, {*self._names, name})

    def add(self, name: str, aliases: Sequence[str] = (), *, make_default: bool = False) -> None:
        """Add a model, point aliases to it, make it the default; the first becomes that anyway.

        Raises:
            AlreadyExists: see `check_free`.
        """
        self.check_free(name, aliases)
        self._names |= {name}
        self._aliases = {**self._aliases, **dict.fromkeys(aliases, name)}
        if make_default or not self.default:
            self.default = name

    def update(self, aliases: Mapping[str, str], deleted: Sequence[str] = (), default: str = "") -> None:
        """Make, move and delete aliases and name the default.

        Args:
            aliases: to names of models.
            deleted: aliases to forget.
            default: name of a model; "": it stays.

        Raises:
            NotFound: no such model or alias.
            AlreadyExists: an alias is the name of a model.
        """
        for alias, name in aliases.items():
            self._check_alias(alias, self._names)
            if name not in self._names:
                raise NotFound(f"aliases[{alias!r}]: {self._not_loaded(name)}", field="aliases")
        if default and default not in self._names:
            raise NotFound(f"default_model: {self._not_loaded(default)}", field="default_model")
        for alias in deleted:
            if alias not in self._aliases:
                raise NotFound(f"there is no alias {alias[:80]!r}", field="deleted")
        kept = {alias: name for alias, name in self._aliases.items() if alias not in deleted}
        self._aliases = {**kept, **aliases}
        self.default = default or self.default

    def remove(self, name: str) -> None:
        """Forget a model.

        Raises:
            NotFound: no model has this name.
            NotPossible: it is the default and not the only one, or an alias points to it.
        """
        if name not in self._names:
            raise NotFound(self._not_loaded(name), field="name")
        pointing = self.aliases_of(name)
        if pointing:
            raise NotPossible(f"alias {pointing[0]!r} points to model {name!r}; move it first", field="name")
        if name == self.default and len(self._names) > 1:
            raise NotPossible(f"model {name!r} is the default; make another the default first", field="name")
        self._names -= {name}
        if name == self.default:
            self.default = ""

    def _check_alias(self, alias: str, names: frozenset[str] | set[str]) -> None:
        if alias in names:
            raise AlreadyExists(f"alias {alias!r} is the name of a model", field="aliases")

    def _not_loaded(self, name: str) -> str:
        loaded = ", ".join(sorted({*self._names, *self._aliases})) or "none"
        return f"model {name[:80]!r} is not loaded; loaded: {loaded}"
