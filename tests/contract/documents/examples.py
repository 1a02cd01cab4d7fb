"""The examples in the documents: JSON bodies, and frames of the stream."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_DIRECTORY = Path(__file__).parent
_ROW = re.compile(r"^([a-z][A-Za-z]*?)(object|array|any|string\?|integer\?|number\?|integer|number|string)([A-Z].*)$")
_FRAME = re.compile(r"^event: (\S+)\ndata: (\{.*\})$", re.MULTILINE)


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


def _text(document: str) -> str:
    return (_DIRECTORY / f"{document}.txt").read_text(encoding="utf-8")
