"""The functions of the public face, over the one agent of this process."""

from __future__ import annotations

import logging

from sluice_agent.agent import EXIT_BUDGET, Agent, BeforeSend
from sluice_agent.log import logger
from sluice_agent.redaction import Redact
from sluice_agent.settings import Settings
from sluice_agent.stats import Counts, Stats

_agent: Agent | None = None
_is_off = False


def install(
    settings: Settings | None = None, *, before_send: BeforeSend | None = None, redact: Redact | None = None
) -> None:
    """Begin to watch. A second call does nothing more.

    `settings` stand in for the environment. `before_send` is called with every event: it returns the event, a changed
    copy (``event.model_copy(update=…)``), or None to drop it, which is counted. `redact` is called as
    ``redact(name, value)`` for arguments and results where ``SLUICE_CAPTURE_ARGS`` asks for them, and returns what may
    be sent instead of the default's answer.

    Without a key the agent is off, and says so once. Raises `ConfigError` where a setting is malformed; nothing else.
    """
    global _agent, _is_off  # noqa: PLW0603 - one agent to a process: this is where it is kept
    if _agent is not None or _is_off:
        return
    settings = settings or Settings()
    logger.setLevel(getattr(logging, settings.log_level.upper()))
    if not settings.active:
        _is_off = True
        why = "SLUICE_API_KEY is not set" if settings.enabled else "SLUICE_ENABLED is 0"
        logger.info("sluice-agent is off: %s", why)
        return
    _agent = Agent(settings, before_send, redact)
    _agent.listen()


def installed() -> Agent | None:
    """The agent of this process, where `install` has made one."""
    return _agent


def flush(timeout: float = EXIT_BUDGET) -> bool:
    """Wait until everything captured on this host so far is settled. False where `timeout` (seconds) comes first."""
    return _agent.flush(timeout) if _agent is not None else True


def shutdown(timeout: float = EXIT_BUDGET) -> None:
    """Deliver what there is within `timeout` seconds; the rest stays in the journal. Runs by itself at exit."""
    if _agent is not None:
        _agent.shutdown(timeout)


def stats() -> Stats:
    """What became of the events of this journal: captured = delivered + rejected + dropped + pending.

    The figures are those of the journal's folder, so they count every process that writes to it, and outlive them.
    """
    return _agent.stats() if _agent is not None else Counts().stats(pending=0)


def progress(fraction: float) -> None:
    """Say from inside a task how far it is, from 0 to 1. Told at most once a second, the last word always."""
    if _agent is not None:
        _agent.report_progress(fraction)
