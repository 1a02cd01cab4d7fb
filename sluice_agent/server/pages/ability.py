"""What the reader of a page may do with its jobs, and the addresses of the pages that ask before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from sluice_agent.server.access.principal import LOOPBACK
from sluice_agent.server.actions.ledger import Kind
from sluice_agent.server.pages.render import url_of
from sluice_agent.server.pages.scope import Scope
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.job_filter import JobFilter

VERBS = {Kind.RETRY: "Retry", Kind.REVOKE: "Revoke"}
"""The actions as buttons name them."""

_SIGN_IN = "To retry or revoke jobs, sign in as operator: sluice-agent key link prints a link."


class Ability(NamedTuple):
    """Whether jobs can be acted on from a page; else `reason`, if there is one that helps."""

    is_given: bool
    reason: str | None = None


def ability_of(sources: Sources, reader: Connection, scope: Scope) -> Ability:
    """Return whether the reader of a page may act on jobs of its connection."""
    principal = scope.principal
    if principal is LOOPBACK:
        return Ability(False, _SIGN_IN)
    if not principal.may_act or scope.connection is None:
        return Ability(False)
    reason = sources.acting.actions.missing_broker(reader, scope.connection.number)
    return Ability(reason is None, reason)


def question_href(kind: Kind, wanted: JobFilter) -> str:
    """Return the address of the question about all jobs that a filter selects."""
    return ask_href([("kind", kind.value), *wanted.to_parameters()])


def kinds_for(wanted: JobFilter) -> list[Kind]:
    """Return what can be done with some of the jobs that a filter selects, by their states."""
    return [kind for kind in Kind if not wanted.states or set(wanted.states) & set(kind.states)]


def ask_href(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the address of the question with these parameters."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return url_of("/actions/new", values)


def kind_for(wanted: JobFilter) -> Kind | None:
    """Return what can be done with all jobs that a filter selects, by their states; None if nothing."""
    for kind in Kind:
        if wanted.states and set(wanted.states) <= set(kind.states):
            return kind
    return None
