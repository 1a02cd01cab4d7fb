"""An endpoint of outbound webhooks: it records what comes, and misbehaves as the ingest endpoint does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from tests.support.endpoint import Endpoint
from tests.support.ingest_server import Request

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The secret of the specification's own example."""


class WebhookReceiver(Endpoint):
    """An endpoint that takes any request; without a script it answers 200."""

    def read(self, request: Request) -> tuple[int, bytes] | None:
        """Take any request."""
        request.body = request.raw
        return None

    @property
    def hook(self) -> str:
        """The URL that webhooks are sent to."""
        return f"http://127.0.0.1:{self.port}/hook"

    def ids(self) -> list[str]:
        """Return the ids of all that came, in order."""
        return [request.headers["webhook-id"] for request in list(self.requests)]

    def bodies(self) -> list[dict[str, Any]]:
        """Return what came, in order."""
        return [json.loads(request.raw) for request in list(self.requests)]


def is_signed(request: Request, secret: str = SECRET) -> bool:
    """Return whether a request has the right signature, computed from the specification alone."""
    key = base64.b64decode(secret.split("_")[1])
    parts = request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), request.raw
    expected = base64.b64encode(hmac.new(key, b".".join(parts), hashlib.sha256).digest()).decode()
    return request.headers["webhook-signature"] == f"v1,{expected}"
