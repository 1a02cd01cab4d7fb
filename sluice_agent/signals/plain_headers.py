"""What the message of a plain job may have in its headers, and the text that its events make of that."""

from __future__ import annotations

from typing import Any

from sluice_agent.attempt_message import HEADER
from sluice_agent.lifecycle.identity import is_random_id
from sluice_agent.signals.message_headers import RARE_HEADERS

RARE_IN_PLAIN_JOBS = (*RARE_HEADERS, HEADER, "retries", "shadow", "replaced_task_nesting")
"""The headers that a plain job leaves empty."""


def members_of_ids(external_id: Any, root_id: Any, parent_id: Any) -> str | None:
    """Return the members of the extensions for the ids of a job, each followed by a comma; None if one is odd."""
    if (
        type(external_id) is not str
        or not is_random_id(external_id)
        or not (root_id == external_id or _is_random_or_absent(root_id))
        or not (parent_id is None or _is_random_or_absent(parent_id))
    ):
        return None
    members = f'"rootId":"{root_id or external_id}",'
    return f'{members}"parentId":"{parent_id}",' if parent_id and parent_id != external_id else members


def _is_random_or_absent(external_id: Any) -> bool:
    return not external_id or (type(external_id) is str and is_random_id(external_id) is not None)
