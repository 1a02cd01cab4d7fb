"""What every handler in this room is given: where events go, how they are made, and what the user does not want."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec

from celery.exceptions import SoftTimeLimitExceeded

from sluice_agent.log import complain, logger
from sluice_agent.redaction import Redact

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Watch:
    """The handlers' surroundings.

    `emit` takes an event, as the line that is sent; `lost` counts one that could not be made, by reason.
    """

    emit: Callable[[bytes], None]
    lost: Callable[[str], None]
    connection_id: str
    is_ignored: Callable[[str], bool]
    redact: Redact | None
    """Arguments and results pass through it; None: they are not captured."""
    can_keep: Callable[[], bool] = lambda: True
    """Whether what is emitted now can be written down."""


def harmless(watch: Watch, handler: Callable[P, None]) -> Callable[P, None]:
    """`handler`, but what it raises is counted and logged once a minute, and never reaches the host.

    A soft time limit is the exception: Celery raises it wherever the task happens to be, and that may be in here.
    """

    @wraps(handler)
    def handled(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            handler(*args, **kwargs)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # noqa: BLE001 - the promise: nothing of ours reaches the host
            watch.lost("internal_error")
            complain("handler", "An event could not be told (%s: %s); it is counted.", type(error).__name__, error)
            logger.debug("An event could not be told", exc_info=sys.exc_info())

    return handled
