"""Answers of routes that read: what a closed model allows, as JSON.

A route that returns its content has the framework check it in another thread than its own, and write it in that of the
event loop. A route that reads does both in its thread, in which it has read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Response
from pydantic import BaseModel, TypeAdapter


def answer_of(model: type[BaseModel]) -> Callable[[Any], Response]:
    """Return what makes an answer from its content. That raises `ValidationError` for content that `model` does not
    allow, which is answered with 500."""
    adapter = TypeAdapter(model)

    def answer(content: Any) -> Response:
        body = adapter.dump_json(adapter.validate_python(content), by_alias=True)
        return Response(body, media_type="application/json")

    return answer
