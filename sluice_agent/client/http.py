"""The one file of the room that uses HTTP: requests to one API, as JSON or as a stream of bytes."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx

from sluice_agent.client.errors import ApiError, TemporaryError

SILENCE = 45.0
"""Seconds without a byte after which a stream counts as lost: three heartbeats."""

_CONNECT = 5.0  # seconds, also for what follows
_ANSWER = 30.0
_TEMPORARY = frozenset({429, 500, 502, 503, 504})
_NO_SUCH_PATH = "Not Found"  # the message of a Sluice for an address outside its API
_KEY_HELP = (
    "set SLUICE_API_KEY to a key that may %s: on your own server `sluice-agent key create --connection NAME --role %s`"
)
_VIEWER, _OPERATOR = ("read", "viewer"), ("trigger runs", "operator")

Parameters = Mapping[str, str | Sequence[str]]


class ApiClient:
    """The API at `url`, such as ``http://127.0.0.1:8787/api``. `key` is sent as a bearer token.

    Every method raises `ApiError` with a sentence that names the remedy, and `TemporaryError` if it may succeed later.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/")
        try:
            self._client = httpx.Client(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=httpx.Timeout(_ANSWER, connect=_CONNECT),
                verify=_tls_context(self._url),
            )
        except (OSError, ValueError, ImportError) as error:  # certificates or a proxy that the environment names
            raise ApiError(f"can't make requests with this environment ({error})") from None

    def get(self, path: str, parameters: Parameters | None = None) -> Any:
        """Return the JSON of a GET request. `path` begins with a slash and is already quoted."""
        with self._errors():
            response = self._client.get(self._url + path, params=_present(parameters))
        if response.status_code != 200:
            self._refuse(response)
        return self._json(response)

    def post(self, path: str, body: str) -> Any:
        """Return the JSON of the answer to a POST request with the JSON text `body`, which is sent once."""
        with self._errors():
            response = self._client.post(
                self._url + path, content=body.encode(), headers={"Content-Type": "application/json"}
            )
        if not response.is_success:
            self._refuse(response, _OPERATOR)
        return self._json(response)

    @contextmanager
    def stream(self, path: str, parameters: Parameters, last_id: str | None) -> Iterator[Iterator[bytes]]:
        """Open a stream of server-sent events, and yield its bytes as they come."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        timeout = httpx.Timeout(SILENCE, connect=_CONNECT)
        request = self._client.build_request(
            "GET", self._url + path, params=_present(parameters), headers=headers, timeout=timeout
        )
        with self._errors():
            response = self._client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    response.read()
                    self._refuse(response)
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    self._refuse_other_server(response)
                yield response.iter_bytes()
            finally:
                response.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError) as error:
            raise ApiError(f"{self._url} is not an address ({error}): it must begin with http:// or https://") from None
        except (httpx.HTTPError, OSError) as error:
            reason = f"{self._url} can't be reached ({str(error) or type(error).__name__})"
            raise TemporaryError(
                reason, "is the server running, and is this address right? SLUICE_API_URL or --url sets it"
            ) from None

    def _refuse(self, response: httpx.Response, role: tuple[str, str] = _VIEWER) -> NoReturn:
        """Raise the error that a status other than 200 means."""
        status, reason = response.status_code, _reason(response)
        if status in _TEMPORARY:
            wait = response.headers.get("Retry-After")
            advice = f"try again in {wait} s" if wait else ""
            raise TemporaryError(f"{status} from {self._url}: {reason or 'no reason given'}", advice)
        if reason in {None, _NO_SUCH_PATH}:
            self._refuse_other_server(response)
        if status in {401, 403}:
            problem, _, _ = str(reason).partition(". ")  # what follows is advice for who sends headers by hand
            raise ApiError(f"{status} from {self._url}: {problem}; {_KEY_HELP % role}", status)
        raise ApiError(f"{status} from {self._url}: {reason}", status)

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            self._refuse_other_server(response)

    def _refuse_other_server(self, response: httpx.Response) -> NoReturn:
        raise ApiError(
            f"{response.status_code} from {self._url}, which is not the API of a Sluice: its address ends in /api, "
            "as in http://127.0.0.1:8787/api. SLUICE_API_URL or --url sets it"
        )


def _present(parameters: Parameters | None) -> dict[str, str | list[str]]:
    given = (parameters or {}).items()
    return {name: value if isinstance(value, str) else list(value) for name, value in given if value}


def _reason(response: httpx.Response) -> str | None:
    """Return the message of an error in the API's form, None for another body."""
    try:
        error = json.loads(response.content)["error"]
        message, details = error["message"], error.get("details")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(message, str):
        return None
    faults = [detail for detail in details if isinstance(detail, str)] if isinstance(details, list) else []
    return "; ".join([message.rstrip("."), *faults])


def _tls_context(url: str) -> ssl.SSLContext:
    """Return a context for `url`, with authorities only where certificates are checked: loading them takes 20 ms."""
    return httpx.create_ssl_context() if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
