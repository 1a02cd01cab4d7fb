"""Answers with JSON: what has no value is absent, and no field is ever null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response

from sluice_agent.jobs.json_text import dumps


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with `body` as JSON, whose `Raw` parts stay as they are."""
    return Response(dumps(body), status, headers, media_type="application/json")
