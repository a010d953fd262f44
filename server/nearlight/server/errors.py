"""What can go wrong in the server, as one tree. `status.py` maps it to the wire.

ServerError
├── InvalidInput      a value the caller sent; names the field, the value and the limit
├── NotFound          a collection, model or point that is not here
├── AlreadyExists     a name that is taken
├── NotPossible       the model or collection is not of the kind the call needs
│   └── WrongSpace    vectors of two models that cannot be compared
├── Unauthenticated   no token, or a wrong one
├── Forbidden         a good token without the right
├── Overloaded        the queue is full; carries the delay after which to retry
│   └── OverCallerLimit  one caller asks for more than its share
├── TooLate           the caller's deadline passed
├── Abandoned         the caller went away
├── NotReady          loading, draining, or a stage is dead
├── NotBuilt          designed on the wire, built by a later version
└── ModelFailure      the engine failed on this input; the detail stays in the log

StartError            the process cannot start: one line for the user and an exit code
├── ConfigError       a wrong key or value
├── BundleUnusable    a bundle that is missing, broken or refused by the engine
├── EngineUnusable    the engine of the store does not answer
├── DataFolderUnusable  unreadable, corrupt or held by another process
└── AddressUnusable   the port is taken or may not be bound
"""


class ServerError(Exception):
    """Root of everything a call can be answered with instead of a reply.

    Args:
        message: what was wrong, the value and the limit.
        field: path of the field at fault in the request, such as "inputs[3].image"; "" where none is.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidInput(ServerError):
    """A value the caller sent is wrong; the message names the field, the value and the limit."""


class NotFound(ServerError):
    """The named thing does not exist."""


class AlreadyExists(ServerError):
    """The name is taken."""


class NotPossible(ServerError):
    """The model or collection is not of the kind the call needs."""


class WrongSpace(NotPossible):
    """Vectors of two different spaces would be compared."""


class Unauthenticated(ServerError):
    """No bearer token, or an unknown one."""


class Forbidden(ServerError):
    """The token is known but does not allow this call."""


class Overloaded(ServerError):
    """A queue is full.

    Args:
        message: what is full, how full, and its bound.
        retry_delay_s: seconds after which room is expected.
    """

    def __init__(self, message: str, retry_delay_s: float) -> None:
        super().__init__(message)
        self.retry_delay_s = retry_delay_s


class OverCallerLimit(Overloaded):
    """One caller asks for more than it may: too many calls at once, or too fast."""


class TooLate(ServerError):
    """The caller's deadline passed before the answer was ready."""


class Abandoned(ServerError):
    """The caller cancelled or went away; nobody reads this."""


class NotReady(ServerError):
    """The server is loading, draining, or a stage of it is dead."""


class NotBuilt(ServerError):
    """The call or field is designed but not built yet; the message names it."""


class ModelFailure(ServerError):
    """The engine failed on this input. The caller sees "internal error", the log the rest."""


class StartError(Exception):
    """The process cannot start."""

    exit_code = 1


class ConfigError(StartError):
    """A wrong key or value in a flag, the environment or the configuration file."""

    exit_code = 2


class BundleUnusable(StartError):
    """A bundle that is missing, broken, or whose graph the engine refuses."""

    exit_code = 3


class DataFolderUnusable(StartError):
    """The data folder cannot be read or written, is corrupt, or another process holds it."""

    exit_code = 4


class EngineUnusable(StartError):
    """The engine that keeps the collections does not answer, or refuses us."""

    exit_code = 6


class AddressUnusable(StartError):
    """The listen address cannot be bound."""

    exit_code = 5
