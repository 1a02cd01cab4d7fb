"""What the message of a plain job may have in its headers, and the text that its events make of that."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from sluice_agent.attempt_message import HEADER
from sluice_agent.lifecycle.identity import is_random_id
from sluice_agent.signals.message_headers import RARE_HEADERS

_RARE = frozenset((*RARE_HEADERS, HEADER, "retries", "shadow", "replaced_task_nesting"))
"""The headers that a plain job leaves empty."""
_PRESENT = frozenset({"group", "eta", "expires", "stamps", "retries", "shadow", "replaced_task_nesting"})
"""Those of them that Celery's own messages have: to look at all of these at once costs half of it."""
_ABSENT = tuple(_RARE - _PRESENT)
_values_of_present = itemgetter(*_PRESENT)


def plain_members(headers: Mapping[str, Any]) -> str | None:
    """Return the members of the extensions for a plain job's ids, each followed by a comma; None if it is not one."""
    get = headers.get
    try:
        if any(_values_of_present(headers)) or any(map(get, _ABSENT)):
            return None
    except KeyError:  # from another client, or an older Celery
        if any(map(get, _RARE)):
            return None
    external_id, root_id, parent_id = get("id"), get("root_id"), get("parent_id")
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
