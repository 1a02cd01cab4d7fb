"""Flower as its documentation sets it up, in a venv of its own, which `make bench` makes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.request import urlopen

from tests.support.process import ROOT, Process, free_port

VENV = "flower"
PYTHON = ROOT / f".venv-bench-{VENV}" / "bin" / "python"
IS_INSTALLED = PYTHON.exists()

_ANSWER_TIMEOUT = 300.0  # seconds; with 800,000 tasks Flower has not answered for 30
_EVENTS = re.compile(r'^flower_events_total\{.*type="task-.*} (\S+)$', re.MULTILINE)


class Flower:
    """`celery flower` on a broker; `url` is that of its front page."""

    def __init__(self, directory: Path, broker: str, *options: str) -> None:
        """Start it; it may not listen yet."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [str(PYTHON), "-m", "celery", "--broker", broker, "flower", f"--port={port}", "--address=127.0.0.1"]
        command += [f"--db={directory / 'flower.db'}", *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        self.process = Process(command, directory / "log", environment)

    def task_events(self) -> int:
        """Return the number of events of tasks that it has received; raise OSError while it does not listen."""
        with urlopen(f"{self.url}/metrics", timeout=_ANSWER_TIMEOUT) as response:
            page = response.read().decode()
        return int(sum(map(float, _EVENTS.findall(page))))
