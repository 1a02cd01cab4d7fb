"""Every exception that sluice-agent raises on purpose.

    SluiceError
    ├── ConfigError               a setting is missing or malformed; raised by ``install()`` and the commands
    └── JournalUnavailableError   no directory can hold the journal; the agent catches it and goes off

At run time nothing is raised into the host: faults are counted in `stats()` and logged at most once a minute.
"""


class SluiceError(Exception):
    """The root of the tree: catch it to catch everything that sluice-agent raises."""


class ConfigError(SluiceError):
    """A setting is missing or malformed. The message names the variable, its value (never a key) and valid values."""


class JournalUnavailableError(SluiceError):
    """The journal's directory can't be used. The message names the directory, the reason, and what to do."""
