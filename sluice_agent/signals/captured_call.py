"""The call that a message asks for, if a user has chosen to send arguments: all that a server needs to repeat it.

Arguments are captured through the user's `redact`, and so are the caller's own headers. What is marked as whole can be
sent again as it is; nothing else can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice_agent.lifecycle.encoding import CapturedCall, MessageOptions
from sluice_agent.lifecycle.redaction import Redact, are_whole, is_whole
from sluice_agent.signals.publish_hook import Publication

_CANVAS = ("chain", "chord", "callbacks", "errbacks")  # members of a message's body: what follows the job


def captured_call(redact: Redact, publication: Publication, task: Mapping[str, Any]) -> CapturedCall:
    """Return arguments and options of a message, whose headers of the task are `task`."""
    args, kwargs, embed = _body_parts(publication.message[2])
    call: CapturedCall = {"args": redact("args", args), "kwargs": redact("kwargs", kwargs)}
    if type(args) in (list, tuple) and are_whole(call["args"], args) and is_whole(call["kwargs"], kwargs):
        call["argsWhole"] = True
    if publication.options is not None:
        call["message"] = _message_options(redact, publication, publication.options, task, embed)
    return call


def _message_options(
    redact: Redact, publication: Publication, options: Mapping[str, Any], task: Mapping[str, Any], embed: Any
) -> MessageOptions:
    message: MessageOptions = {"serializer": str(options.get("serializer") or publication.app.conf.task_serializer)}
    limits = task.get("timelimit")
    if isinstance(limits, (list, tuple)) and len(limits) == 2:
        if type(limits[0]) in (int, float):
            message["timeLimit"] = limits[0]
        if type(limits[1]) in (int, float):
            message["softTimeLimit"] = limits[1]
    if task.get("ignore_result") is True:
        message["ignoreResult"] = True
    if headers := options.get("headers"):
        message["headers"] = redact("headers", headers)
        message["headersWhole"] = is_whole(message["headers"], headers)
    if canvas := [name for name in _CANVAS if isinstance(embed, dict) and embed.get(name)]:
        message["canvas"] = canvas
    return message


def _body_parts(body: Any) -> tuple[Any, Any, Any]:
    """Return arguments, keyword arguments and what follows the job; task protocol 1 has them all in one mapping."""
    if isinstance(body, dict):
        return body.get("args"), body.get("kwargs"), body
    parts = (*body[:3], None, None, None) if isinstance(body, (tuple, list)) else (None, None, None)
    return parts[0], parts[1], parts[2]
