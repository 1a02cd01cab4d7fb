"""The examples in the documents: JSON bodies, and frames of the stream."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DIRECTORY = Path(__file__).parent
_ROW = re.compile(r"^([a-z][A-Za-z]*?)(object|array|any|string\?|integer\?|number\?|integer|number|string)([A-Z].*)$")
_FRAME = re.compile(r"^event: (\S+)\ndata: (\{.*\})$", re.MULTILINE)
_CURL = re.compile(r'curl -X (?P<method>[A-Z]+) "http://[^/]+(?P<path>[^"]+)"( \\ -H "[^"]*")?( \\ -d \'[^\']*\')?')


def bodies(document: str) -> list[Any]:
    """Return the JSON bodies that the document shows, in their order."""
    return [json.loads(block) for block in re.findall(r"^\{$.*?^\}", _text(document), re.MULTILINE | re.DOTALL)]


def types(document: str) -> dict[str, str]:
    """Return the type of each field in the table of a document whose columns are run together."""
    matches = (_ROW.match(line) for line in _text(document).splitlines())
    return {match[1]: match[2] for match in matches if match}


def frames(document: str) -> dict[str, dict[str, Any]]:
    """Return the data of the example of each event of the stream, by the event."""
    return {event: json.loads(data) for event, data in _FRAME.findall(_text(document))}


@dataclass(frozen=True)
class Sample:
    """A request of a document, and the body of its answer, None: no body is shown."""

    method: str
    path: str
    answer: Any


def samples(document: str) -> list[Sample]:
    """Return the requests that the document shows as commands of curl, whose answers follow at once."""
    text = _text(document)
    found = []
    for command in _CURL.finditer(text):
        is_shown = text[command.end() : command.end() + 1] in ("{", "[")
        answer = json.JSONDecoder().raw_decode(text, command.end())[0] if is_shown else None
        found.append(Sample(command["method"], command["path"], answer))
    return found


def _text(document: str) -> str:
    return (_DIRECTORY / f"{document}.txt").read_text(encoding="utf-8")
