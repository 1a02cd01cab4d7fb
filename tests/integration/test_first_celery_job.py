"""The lines by which a new user makes a job of a Celery task, run as they are written in the README."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.brokers import redis_broker
from tests.support.process import ROOT, Process, free_port
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

_PAGES = (ROOT / "README.md", ROOT / "docs" / "jobs-api.md")
_BLOCKS = re.compile(r"With this `shop\.py`.*?```python\n(.*?)```.*?```sh\n(.*?)```", re.DOTALL)


def blocks_of(page: Path) -> tuple[str, str]:
    """Return the app, and the lines of the shell."""
    app, lines = _BLOCKS.findall(page.read_text(encoding="utf-8"))[0]
    return app, lines


def test_the_lines_lead_to_a_task_that_is_scheduled_and_runs(redis_server: RedisServer, tmp_path: Path) -> None:
    """The first thing that a user tries would not work. Only the ports are others here."""
    app, lines = blocks_of(_PAGES[0])
    assert blocks_of(_PAGES[1]) == (app, lines), "both pages have the same lines"
    port, broker = free_port(), redis_broker(redis_server).url
    (tmp_path / "shop.py").write_text(app.replace("redis://127.0.0.1:6379/0", broker))
    lines = lines.replace("redis://127.0.0.1:6379/0", broker).replace(
        "sluice-agent serve", f"sluice-agent serve --port {port}"
    )
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "SLUICE_STATE_DIR": str(state), "C_FORCE_ROOT": "1"}
    script = Process(["sh", "-ec", f"{lines}\necho the script has ended\n"], tmp_path / "log", env, tmp_path)
    try:
        wait_until(lambda: script.exit_code is not None, 60, "the lines have not ended", script.tail)
        log = script.logs()
        if script.exit_code:
            pytest.fail(log, pytrace=False)
        assert "0 3 * * *" in log
        assert "completed\nthe script has ended" in log
    finally:
        script.stop()
