"""Why a request failed, as sentences for a user."""

from __future__ import annotations

from sluice_agent.errors import SluiceError


class ApiError(SluiceError):
    """The request failed, and will fail again: the address, the key or a parameter is wrong.

    `status` is that of the response, None without one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TemporaryError(ApiError):
    """The server can't be reached or is not ready: the same request may succeed later. `reason` is without advice."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}: {advice}" if advice else reason)
        self.reason = reason
