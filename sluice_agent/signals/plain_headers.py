"""What the message of a plain job may have in its headers, and the text that its events make of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice_agent.attempt_message import HEADER
from sluice_agent.lifecycle.identity import is_random_id


def plain_members(headers: Mapping[str, Any]) -> str | None:
    """Return the members of the extensions for a plain job's ids, each followed by a comma; None if it is not one."""
    get = headers.get
    if (  # all of `RARE_HEADERS`, and four more: one by one, as a loop over them takes twice as long
        get("group")
        or get("eta")
        or get("expires")
        or get("stamps")
        or get("is_eager")
        or get("periodic_task_name")
        or get(HEADER)
        or get("retries")
        or get("shadow")
        or get("replaced_task_nesting")
    ):
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
