"""The environment by which a worker sends its events to this server."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from sluice_agent.server.access.setup import Access, AccessOptions

URL, CONNECTION, KEY = "SLUICE_API_URL", "SLUICE_CONNECTION_ID", "SLUICE_API_KEY"

LOCAL_CONNECTION = "10ca1000-0000-4000-8000-000000000000"
LOCAL_KEY = "sk_local"
"""What a worker sends to a server on loopback that accepts any key: the same each time, so that its journal is too."""

_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 (compared only)


def worker_environment(url: str, access: Access, options: AccessOptions) -> dict[str, str]:
    """Return the variables of a worker, where the API's address is `url`. One whose value is not known is missing."""
    environment = {URL: _reachable(url, options)}
    if access.connection is not None:
        environment[CONNECTION] = access.connection.id
        key = access.new_key.secret if access.new_key is not None else options.api_key
    elif access.exposure.is_open:
        key = None
    else:
        environment[CONNECTION] = LOCAL_CONNECTION
        key = options.api_key or LOCAL_KEY
    return environment if key is None else {**environment, KEY: key}


def _reachable(url: str, options: AccessOptions) -> str:
    """Return `url` with a name of this machine, if the server listens on every address."""
    if options.host not in _EVERY_ADDRESS:
        return url
    name = options.allowed_hosts[0] if options.allowed_hosts else socket.gethostname()
    return f"http://{name if ':' in name else f'{name}:{urlsplit(url).port}'}/api"
