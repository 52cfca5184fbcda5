"""Errors that a user can cause, each kind with its own exit code.

Every message says what is wrong, where, and what is allowed; the command line prints it on one
line and exits with the class's code. Anything else that is raised is a bug and keeps its traceback.
"""


class ObaError(Exception):
    """Base of all errors that are reported without a traceback."""

    exit_code = 1


class ConfigError(ObaError):
    """The study file, or an option, asks for something that is not allowed."""

    exit_code = 3


class DataError(ObaError):
    """Images or labels are missing, unreadable or of the wrong kind."""

    exit_code = 4


class ModelError(ObaError):
    """A model cannot be built, loaded or pruned as asked."""

    exit_code = 5


class BudgetError(ObaError):
    """A level of ``keep`` cannot be reached within the floors of the layers."""

    exit_code = 6


class ScoreError(ObaError):
    """Scores cannot be computed, or are not finite."""

    exit_code = 7


class TrainingError(ObaError):
    """Training cannot go on, for example because the loss is not finite."""

    exit_code = 8


class FileError(ObaError):
    """A stage's file is missing, damaged or does not fit the others."""

    exit_code = 9


class TrackingError(ObaError):
    """The tracking server or store cannot be reached, or refuses what it is sent."""

    exit_code = 10
