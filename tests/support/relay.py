"""A TCP relay that can freeze, so that its connections stay open and forward nothing any more, or be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Relay:
    """Listens on a free loopback port and forwards everything to `port` on loopback."""

    def __init__(self, port: int) -> None:
        self._target_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._is_cut = False
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def freeze(self) -> int:
        """Stop forwarding on the present connections without closing them; return their number."""
        live = [pair for pair in self._pairs if not pair.is_closed]
        for pair in live:
            pair.is_frozen = True
        return len(live)

    def cut(self) -> None:
        """Close all connections, and further ones at once, until `restore`."""
        self._is_cut = True
        for pair in self._pairs:
            pair.close()

    def restore(self) -> None:
        """Forward new connections again."""
        self._is_cut = False

    def close(self) -> None:
        """Stop listening, and close all connections."""
        self._listener.close()
        for pair in self._pairs:
            pair.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client = self._listener.accept()[0]
                if self._is_cut:
                    client.close()
                    continue
                try:
                    self._pairs.append(_Pair(client, socket.create_connection(("127.0.0.1", self._target_port))))
                except OSError:
                    client.close()


class _Pair:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.is_frozen = self.is_closed = False
        self._ends = (client, server)
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._forward, args=(source, target), name="relay", daemon=True).start()

    def close(self) -> None:
        self.is_closed = True
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not self.is_frozen:
                    target.sendall(data)
        if not self.is_frozen:
            self.close()
