"""The bodies of a worker's requests. What a newer worker adds is ignored; what no worker sends is refused."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from sluice_agent.jobs.attempts.heads import within_limits
from sluice_agent.jobs.attempts.records import Outcome
from sluice_agent.jobs.json_text import parse

MOST_BEATS = 10_000
"""Executions of one sign of life."""

Execution = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{16,64}$")]
"""The random name of one execution of a message. Who has it may finish the attempt: it is known to its worker only."""

_LONGEST_ERROR = 16_384  # characters that are kept
_Number = Annotated[int, Field(ge=1, le=2**31 - 1)]


_RunId = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00]*$")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class StartRequest(_Request):
    """An attempt that a worker is about to begin."""

    attempt: _Number
    ticket: Annotated[str, StringConstraints(max_length=256)]
    execution: Execution


def _storable(outcome: Outcome) -> Outcome:
    """Return an outcome that databases store, and that answers can show: `result` is JSON, or becomes a string of it.

    Nothing of it is refused: a worker would send it again for ever.
    """
    error = None if outcome.error is None else _without_nul(outcome.error[:_LONGEST_ERROR])
    trace = outcome.trace.model_copy(update={"exchanges": within_limits(outcome.trace.exchanges)})
    return outcome.model_copy(update={"error": error, "result": _json(outcome.result), "trace": trace})


def _json(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parse(text.encode())
    except ValueError:
        return json.dumps(text, ensure_ascii=False)
    return text


def _without_nul(text: str) -> str:
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


class FinishRequest(_Request):
    """What has come of an attempt."""

    attempt: _Number
    execution: Execution
    outcome: Annotated[Outcome, Field(strict=False), AfterValidator(_storable)]


class BeatRequest(_Request):
    """The executions of a worker that go on, each with the id of its run."""

    executions: Annotated[dict[Execution, _RunId], Field(max_length=MOST_BEATS)]
