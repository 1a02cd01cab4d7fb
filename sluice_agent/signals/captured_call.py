"""The call that a message asks for: what a server needs to repeat it.

Arguments, and the caller's own headers, are captured through the user's `redact`, if the user has chosen to send them.
What is marked as whole can be sent again as it is; nothing else can. Of other users' messages only such options are
reported as a repetition must not lose, and not what is in headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice_agent.lifecycle.encoding import CapturedCall, MessageOptions
from sluice_agent.lifecycle.redaction import Redact, are_whole, is_whole
from sluice_agent.signals.publish_hook import Publication

_NO_LIMITS = ([None, None], (None, None), None)
_DEFAULT_SERIALIZERS = ("json", None)
_CANVAS = ("chain", "chord", "callbacks", "errbacks")  # members of a message's body: what follows the job
_NO_CANVAS = dict.fromkeys(_CANVAS)


def captured_call(redact: Redact, publication: Publication, task: Mapping[str, Any]) -> CapturedCall:
    """Return arguments and options of a message, whose headers of the task are `task`."""
    args, kwargs, embed = _body_parts(publication.message[2])
    call: CapturedCall = {"args": redact("args", args), "kwargs": redact("kwargs", kwargs)}
    if type(args) in (list, tuple) and are_whole(call["args"], args) and is_whole(call["kwargs"], kwargs):
        call["argsWhole"] = True
    if publication.options is not None:
        call["message"] = _message_options(redact, publication.options, task, embed)
        call["message"]["serializer"] = str(
            publication.options.get("serializer") or publication.app.conf.task_serializer
        )
    return call


def options_of_call(publication: Publication, task: Mapping[str, Any]) -> CapturedCall:
    """Return the options of a message whose arguments are not captured; empty for most."""
    if publication.options is None or not has_options(publication, task):
        return {}
    message = _message_options(None, publication.options, task, _body_parts(publication.message[2])[2])
    if publication.options.get("serializer"):
        message["serializer"] = str(publication.options["serializer"])
    return {"message": message}


def has_options(publication: Publication, task: Mapping[str, Any]) -> bool:
    """Return whether `options_of_call` are any: few messages have some."""
    options, body = publication.options, publication.message[2]
    if options is None:
        return False
    embed = body[2] if type(body) is tuple and len(body) > 2 else None
    return bool(
        options.get("headers")
        or options.get("serializer") not in _DEFAULT_SERIALIZERS
        or task.get("timelimit") not in _NO_LIMITS
        or (embed != _NO_CANVAS and type(embed) is dict and any(embed.values()))
    )


def _message_options(
    redact: Redact | None, options: Mapping[str, Any], task: Mapping[str, Any], embed: Any
) -> MessageOptions:
    message: MessageOptions = {}
    limits = task.get("timelimit")
    if isinstance(limits, (list, tuple)) and len(limits) == 2:
        if type(limits[0]) in (int, float):
            message["timeLimit"] = limits[0]
        if type(limits[1]) in (int, float):
            message["softTimeLimit"] = limits[1]
    if task.get("ignore_result") is True:
        message["ignoreResult"] = True
    headers = options.get("headers")
    if headers and redact is None:
        message["headersWhole"] = False
    elif headers and redact is not None:
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
