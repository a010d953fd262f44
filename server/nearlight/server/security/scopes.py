"""What each call may do: the scope that a token needs for it."""

from enum import IntEnum

from nearlight.v1 import collection_pb2, embedding_pb2, maintenance_pb2, model_pb2, point_pb2


class Scope(IntEnum):
    """What a token may do; each includes the ones before it."""

    READ = 1
    """Embed, classify, search, look."""
    WRITE = 2
    """Create, change and delete collections, points and label sets."""
    ADMIN = 3
    """Load and unload models, snapshots, upgrades."""

    @property
    def word(self) -> str:
        """Its name in files and commands."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> "Scope":
        """The scope of this name; raises ValueError where there is none."""
        try:
            return cls[word.upper()]
        except KeyError:
            words = ", ".join(scope.word for scope in cls)
            raise ValueError(f"scope is {word[:40]!r}; it must be one of {words}") from None


_FILES = (embedding_pb2, model_pb2, collection_pb2, point_pb2, maintenance_pb2)
_WRITES = ("Create", "Update", "Put", "Upsert", "Delete", "Set")
_READS = ("Get", "List", "Embed", "Classify", "Scroll", "Count", "Query", "FindDuplicates")


def _scope_of(service: str, method: str) -> Scope:
    if service == "MaintenanceService" or method == "UpdateModelAliases":
        return Scope.ADMIN
    if method.startswith(_READS):
        return Scope.READ
    return Scope.WRITE if method.startswith(_WRITES) else Scope.ADMIN


# Full method name to scope, for every method of the wire.
SCOPES: dict[str, Scope] = {
    f"/{service.full_name}/{method.name}": _scope_of(service.name, method.name)
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
_REFLECTION = "/grpc.reflection."


def scope_needed(method: str) -> Scope:
    """The scope a call of this full method name needs; ADMIN for what is not known here."""
    return Scope.READ if method.startswith(_REFLECTION) else SCOPES.get(method, Scope.ADMIN)
