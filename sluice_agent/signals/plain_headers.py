"""What the message of a plain job may have in its headers, and the text that its events make of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice_agent.attempt_message import HEADER
from sluice_agent.lifecycle.identity import is_random_id

_OFTEN_EMPTY = ("retries", "eta", "group", "expires", "shadow", "replaced_task_nesting", "stamps")
"""Headers that Celery writes in all messages, and that are empty or 0 in most."""


def plain_members(headers: Mapping[str, Any]) -> str | None:
    """Return the members of the extensions for a plain job's ids, each followed by a comma; None if it is not one."""
    try:
        is_rare = (
            headers["retries"]
            or headers["eta"]
            or headers["group"]
            or headers["expires"]
            or headers["shadow"]
            or headers["replaced_task_nesting"]
            or headers["stamps"]
        )
        external_id, root_id, parent_id = headers["id"], headers["root_id"], headers["parent_id"]
    except KeyError:  # another client writes fewer headers
        get = headers.get
        is_rare = any(map(get, _OFTEN_EMPTY))
        external_id, root_id, parent_id = get("id"), get("root_id"), get("parent_id")
    if is_rare or "is_eager" in headers or "periodic_task_name" in headers or HEADER in headers:
        return None
    if type(external_id) is not str or not is_random_id(external_id):
        return None
    if root_id == external_id and parent_id is None:  # most jobs
        return f'"rootId":"{external_id}",'
    if not (_is_random_or_absent(root_id) and _is_random_or_absent(parent_id)):
        return None
    members = f'"rootId":"{root_id or external_id}",'
    return f'{members}"parentId":"{parent_id}",' if parent_id and parent_id != external_id else members


def _is_random_or_absent(external_id: Any) -> bool:
    return not external_id or (type(external_id) is str and is_random_id(external_id))
