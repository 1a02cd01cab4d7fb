"""The public functions: they call the one agent of this process.

Nothing heavy is imported before `install` is called: an app may import the package in processes that never use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sluice_agent.host_budgets import EXIT_BUDGET
from sluice_agent.log import logger
from sluice_agent.stats import Counts, Stats

if TYPE_CHECKING:
    from sluice_agent.agent import Agent
    from sluice_agent.before_send import BeforeSend
    from sluice_agent.lifecycle.redaction import Redact
    from sluice_agent.settings import Settings
    from sluice_agent.signals import Instrumentation


class PublicAgent(Protocol):
    """The object that the public functions call: the agent, or a stand-in for it in the tests of an app."""

    report_progress: Callable[[float], None]
    instrumentation: Instrumentation | None

    def flush(self, timeout: float) -> bool: ...
    def shutdown(self, timeout: float) -> None: ...
    def stats(self) -> Stats: ...


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of `install`, and the settings that it has read."""

    settings: Settings
    before_send: BeforeSend | None
    redact: Redact | None


_agent: PublicAgent | None = None
_options: Options | None = None


def install(
    settings: Settings | None = None, *, before_send: BeforeSend | None = None, redact: Redact | None = None
) -> None:
    """Start to capture events. A second call does nothing.

    `settings` replace the environment variables. `before_send` is called with every event: it returns the event, a
    changed copy (``event.model_copy(update=…)``), or None to drop it, which is counted. `redact` is called as
    ``redact(name, value)`` for arguments, a caller's headers and results if ``SLUICE_CAPTURE_ARGS`` is set, and returns
    the value to send: it replaces the default hook.

    Without a key the agent is off, and logs that once. Raises `ConfigError` if a setting is malformed; nothing else.
    """
    global _agent, _options  # noqa: PLW0603 - one agent for each process, kept here
    if _agent is not None or _options is not None:
        return
    from sluice_agent.settings import Settings  # noqa: PLC0415 - see above

    settings = settings or Settings()
    _options = Options(settings, before_send, redact)
    logger.setLevel(getattr(logging, settings.log_level.upper()))
    if not settings.active:
        from sluice_agent.off_notice import log_off  # noqa: PLC0415 - see above

        log_off(settings.off_reason)
        return
    from sluice_agent.agent import Agent  # noqa: PLC0415 - see above

    agent = Agent(settings, before_send, redact)
    _agent = agent
    agent.connect_signals()


def installed() -> Agent | None:
    """Return the agent of this process, if `install` has made one."""
    if _agent is None:
        return None
    from sluice_agent.agent import Agent  # noqa: PLC0415 - see above

    return _agent if isinstance(_agent, Agent) else None


def installed_options() -> Options | None:
    """Return the options of the first call of `install`, which may have left the agent off."""
    return _options


def exchange_agent(agent: PublicAgent | None) -> None:
    """Let the public functions call `agent`."""
    global _agent  # noqa: PLW0603 - the one of this process, see `install`
    _agent = agent


def flush(timeout: float = EXIT_BUDGET) -> bool:
    """Wait until everything captured on this host so far is settled. Return False if `timeout` (seconds) runs out."""
    return _agent.flush(timeout) if _agent is not None else True


def shutdown(timeout: float = EXIT_BUDGET) -> None:
    """Deliver pending events for up to `timeout` seconds; the rest stays in the journal. Also called at exit."""
    if _agent is not None:
        _agent.shutdown(timeout)


def stats() -> Stats:
    """Return the counts of this journal's events: captured = delivered + rejected + dropped + pending.

    They are kept in the journal's directory, so they include every process that writes to it, and outlive them.
    """
    return _agent.stats() if _agent is not None else Counts().stats(pending=0)


def progress(fraction: float) -> None:
    """Report the progress of the running task, from 0 to 1. Sent at most once a second; the last report always."""
    if _agent is not None:
        _agent.report_progress(fraction)
