"""A small forward proxy, as a company has one: it takes requests for any host to the one behind it."""

from __future__ import annotations

import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Proxy:
    """Listens on a free loopback port; whatever is asked of it goes to `port` on loopback."""

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        """The addresses as they were asked for."""
        self._server = _Server(("127.0.0.1", 0), _Forward)
        self._server.proxy, self._server.behind = self, port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True, name="proxy").start()

    @property
    def url(self) -> str:
        """What belongs into HTTP_PROXY."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy
    behind: int


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self.server.proxy.asked.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        behind = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=10)
        behind.request("POST", urlsplit(self.path).path, body, dict(self.headers.items()))
        answer = behind.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        behind.close()

    def do_CONNECT(self) -> None:
        self.server.proxy.asked.append(self.path)
        with socket.create_connection(("127.0.0.1", self.server.behind)) as behind:
            self.send_response(200)
            self.end_headers()
            relay(self.connection, behind)
        self.close_connection = True

    def log_message(self, *args: object) -> None:  # the tests read `asked`
        pass


def relay(one: socket.socket, other: socket.socket) -> None:
    """Pass on what either says, until one of them has ended."""
    while True:
        ready, _, _ = select.select([one, other], [], [])
        for speaker in ready:
            content = speaker.recv(65_536)
            if not content:
                return
            (other if speaker is one else one).sendall(content)
