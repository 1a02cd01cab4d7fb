"""``/assets/…``: the files that pages refer to. An address has the hash of the file, so browsers keep it for a year."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sluice_agent.server.errors import RefusedError

DIRECTORY = Path(__file__).parent / "assets"

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_A_YEAR = "public, max-age=31536000, immutable"
_HASH = 12  # characters


@dataclass(frozen=True, slots=True)
class Asset:
    """A file in both forms in which it is sent, and the hash of its content."""

    content: bytes
    compressed: bytes
    media_type: str
    hash: str


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:_HASH]
    return Asset(content, gzip.compress(content, 9, mtime=0), _TYPES[path.suffix], digest)


ASSETS = {path.name: _read(path) for path in sorted(DIRECTORY.iterdir())}


def asset_url(name: str) -> str:
    """Return the address of an asset."""
    return f"/assets/{name}?v={ASSETS[name].hash}"


def assets_router() -> APIRouter:
    """Return the route of the assets."""
    router = APIRouter()

    @router.get("/assets/{name}")
    def asset(name: str, request: Request, v: str = "") -> Response:
        found = ASSETS.get(name)
        if found is None:
            raise RefusedError(404, "There is no such file.")
        headers = {
            "Cache-Control": _A_YEAR if v == found.hash else "no-cache",
            "ETag": f'"{found.hash}"',
            "Vary": "Accept-Encoding",
        }
        if f'"{found.hash}"' in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if accepts_gzip(request):
            headers["Content-Encoding"] = "gzip"
            return Response(found.compressed, media_type=found.media_type, headers=headers)
        return Response(found.content, media_type=found.media_type, headers=headers)

    return router


def accepts_gzip(request: Request) -> bool:
    """Return whether the client takes a compressed response."""
    accepted = (part.partition(";") for part in request.headers.get("accept-encoding", "").split(","))
    return any(name.strip() == "gzip" and weight.strip() != "q=0" for name, _, weight in accepted)
