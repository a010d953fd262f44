"""What can go wrong in training.

TrainingError
├── ConfigError        a key that does not exist, a value out of its range
├── DataError          a source that cannot be read, or holds nothing to learn from
├── CheckpointError    a run folder that is missing, damaged, or of another method
├── LossInputError     shapes, labels or limits that a loss cannot use; also a ValueError
├── Diverged           a loss that is not finite
└── Collapsed          vectors that all point one way
"""


class TrainingError(Exception):
    """Any failure a user of the training commands can act on."""


class ConfigError(TrainingError):
    """A configuration key or value that cannot be used; the message names key, value and limit."""


class DataError(TrainingError):
    """A source of samples that cannot be read."""


class CheckpointError(TrainingError):
    """A run folder or checkpoint that cannot be used."""


class LossInputError(TrainingError, ValueError):
    """An argument of a loss that cannot be used; the message names argument, value and limit."""


class Diverged(TrainingError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


class Collapsed(TrainingError):
    """The vectors became all alike, and the run was told to stop then; a checkpoint is saved."""
