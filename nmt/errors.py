"""Errors a user can cause or meet.

Each message is one line that says what is wrong, where (file, line, key) and how to fix it. The command line prints
it and exits with :attr:`NmtError.exit_code`; a traceback appears only under ``--debug``.
"""


class NmtError(Exception):
    """Base of every error that ends in one clear line instead of a traceback."""

    exit_code = 2


class ConfigError(NmtError):
    """The configuration cannot be read, or asks for something that does not exist."""


class DataError(NmtError):
    """A corpus or an input file is missing, unreadable or inconsistent."""


class SettingsError(DataError):
    """Data that their settings do not fit; the message names the keys to set."""


class BadRowError(SettingsError):
    """A row that cannot be read, of data that may leave out such rows (``on_bad_row``)."""


class TokenizerError(NmtError):
    """The tokenizer cannot be trained or loaded."""


class CheckpointError(NmtError):
    """A checkpoint is damaged, or belongs to another configuration."""


class RunError(NmtError):
    """A run directory is missing, in use, or not in the state the command needs."""


class DeviceError(NmtError):
    """The device asked for does not exist or cannot do what is asked of it."""


class TrainingError(NmtError):
    """The training cannot continue, although the command was right."""

    exit_code = 1


class CheckFailed(NmtError):
    """``nmt check`` found a problem."""

    exit_code = 1


class NotReproduced(NmtError):
    """``nmt reproduce`` found another result."""

    exit_code = 1


class ExportError(NmtError):
    """A run cannot be written for, or run by, another program."""
