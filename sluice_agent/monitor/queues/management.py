"""Reads from RabbitMQ's management API how many messages are unacknowledged: AMQP has no command for that."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote, unquote, urlsplit

_TIMEOUT = 5.0  # seconds; the sampler waits meanwhile


class Management:
    """The API at `url`, such as ``http://user:password@rabbitmq:15672``, for one virtual host.

    Where `url` has no user, the broker's is used. Raises ValueError for anything but an http or https address.
    """

    def __init__(self, url: str, virtual_host: str, user: str, password: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the management API's address must be such as http://rabbitmq:15672")
        self._connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        columns = "columns=name,messages_unacknowledged"
        self._path = f"{parts.path.rstrip('/')}/api/queues/{quote(virtual_host, safe='')}?{columns}"
        if parts.username:
            user, password = unquote(parts.username), unquote(parts.password or "")
        self._authorization = "Basic " + b64encode(f"{user}:{password}".encode()).decode()

    def unacked(self) -> Mapping[str, int]:
        """Count them by queue. Raises OSError where the API can't be reached, ValueError for any other answer."""
        connection = self._connection_class(self._host, self._port, timeout=_TIMEOUT)
        try:
            connection.request("GET", self._path, headers={"Authorization": self._authorization})
            response = connection.getresponse()
            body = response.read()
        except HTTPException as error:
            raise ValueError(f"not HTTP: {type(error).__name__}") from None
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"{response.status} {response.reason}")
        try:  # a queue that was just declared has no figures yet
            return {
                queue["name"]: int(queue["messages_unacknowledged"]) for queue in json.loads(body) if len(queue) > 1
            }
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a list of queues: {error!r}") from None
