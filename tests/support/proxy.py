"""A small forward proxy, like a company's: it forwards requests for any host to one local server."""

from __future__ import annotations

import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Proxy:
    """Listens on a free loopback port and forwards every request to `port` on loopback."""

    def __init__(self, port: int) -> None:
        self.targets: list[str] = []
        """The addresses that clients requested."""
        self._server = _Server(("127.0.0.1", 0), _Forward)
        self._server.proxy, self._server.upstream_port = self, port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True, name="proxy").start()

    @property
    def url(self) -> str:
        """The value for HTTP_PROXY."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy
    upstream_port: int


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self.server.proxy.targets.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=10)
        upstream.request("POST", urlsplit(self.path).path, body, dict(self.headers.items()))
        response = upstream.getresponse()
        content = response.read()
        self.send_response(response.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        upstream.close()

    def do_CONNECT(self) -> None:
        self.server.proxy.targets.append(self.path)
        with socket.create_connection(("127.0.0.1", self.server.upstream_port)) as upstream:
            self.send_response(200)
            self.end_headers()
            relay(self.connection, upstream)
        self.close_connection = True

    def log_message(self, *args: object) -> None:  # the tests read `targets`
        pass


def relay(client: socket.socket, server: socket.socket) -> None:
    """Forward the bytes of both directions, until either side closes."""
    while True:
        ready, _, _ = select.select([client, server], [], [])
        for source in ready:
            content = source.recv(65_536)
            if not content:
                return
            (server if source is client else client).sendall(content)
