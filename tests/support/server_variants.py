"""The servers in production setups: Redis with TLS, sentinels or as a cluster, RabbitMQ with its management API."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.process import Process, free_port, listens
from tests.support.servers import RabbitMQServer, RedisServer, binary
from tests.support.waiting import wait_until

MASTER = "jobs"
"""The sentinel's name of its Redis."""


def certificate(directory: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate for 127.0.0.1, and its key; return their paths."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no `openssl` to make a certificate with")
    certificate_path, key = directory / "redis.pem", directory / "redis.key"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate_path)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate_path, key


class TLSRedisServer(RedisServer):
    """A Redis that accepts TLS connections only."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate, self.key = certificate(directory)
        super().__init__(directory)

    def url(self, database: int = 0) -> str:
        return f"rediss://127.0.0.1:{self.port}/{database}?ssl_cert_reqs=required&ssl_ca_certs={self.certificate}"

    def options(self) -> dict[str, object]:
        return {
            **super().options(),
            "port": 0,
            "tls-port": self.port,
            "tls-cert-file": self.certificate,
            "tls-key-file": self.key,
            "tls-auth-clients": "no",
        }


class ClusterRedisServer(RedisServer):
    """A Redis cluster of one node with all slots. It still refuses a command on keys of different slots."""

    databases = 1

    def start(self) -> None:
        super().start()
        client = redis.Redis(port=self.port)
        client.execute_command("CLUSTER ADDSLOTSRANGE 0 16383")
        wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 10, "no cluster")
        client.close()

    def options(self) -> dict[str, object]:
        return {**super().options(), "cluster-enabled": "yes", "cluster-port": free_port()}


class SentinelRedisServer(RedisServer):
    """A Redis and one sentinel that monitors it."""

    sentinel: Process | None = None

    def start(self) -> None:
        super().start()
        if self.sentinel is None:
            self.sentinel_port = free_port()
            conf = self.directory / "sentinel.conf"
            conf.write_text(
                f"port {self.sentinel_port}\nbind 127.0.0.1\ndir {self.directory}\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {self.port} 1\n"
            )
            command = [binary(self.name), str(conf), "--sentinel"]
            self.sentinel = Process(command, self.directory / "sentinel.log")
            wait_until(lambda: listens(self.sentinel_port), 10, "the sentinel did not start", self.sentinel.tail)

    def url(self, database: int = 0) -> str:
        return f"sentinel://127.0.0.1:{self.sentinel_port}/{database}"

    def close(self) -> None:
        super().close()
        if self.sentinel is not None:
            self.sentinel.stop()


class ManagedRabbitMQServer(RabbitMQServer):
    """A RabbitMQ with its management API."""

    plugins = ("rabbitmq_management",)

    def __init__(self, directory: Path) -> None:
        self.management_port = free_port()
        self.conf = f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}"
        super().__init__(directory)

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    def serves(self) -> bool:
        return super().serves() and listens(self.management_port)


def conf_of(server: RedisServer) -> dict[str, Any]:
    """Return the Celery settings that such a server needs besides its URL."""
    if isinstance(server, SentinelRedisServer):
        return {"broker_transport_options": {"master_name": MASTER}}
    if isinstance(server, ClusterRedisServer):
        return {"broker_transport_options": {"global_keyprefix": "{jobs}"}}
    return {}
