"""Under uWSGI the agent starts a thread only where it runs, and where no fork follows."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from sluice_agent.uwsgi import can_run_threads


def under(monkeypatch: pytest.MonkeyPatch, version: bytes, worker: int, master: int, **opt: Any) -> bool:
    """Return the result in a process that has uWSGI's module; checked by hand against 2.0.26 and 2.0.30."""
    options = {name.replace("_", "-"): value for name, value in opt.items()}
    uwsgi = SimpleNamespace(version=version, opt=options, worker_id=lambda: worker, masterpid=lambda: master)
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    return can_run_threads()


def test_elsewhere_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise no process would ship any event."""
    monkeypatch.delitem(sys.modules, "uwsgi", raising=False)
    assert can_run_threads()
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(__name__="a stub for type checkers"))
    assert can_run_threads()


def test_none_is_started_before_the_fork(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A site that publishes as it loads would hang at its first request."""
    assert not under(monkeypatch, b"2.0.30", 0, os.getpid())
    assert not under(monkeypatch, b"2.0.30", 0, 0)  # without a master it forks as well
    assert under(monkeypatch, b"2.0.30", 1, os.getppid())
    assert under(monkeypatch, b"2.0.30", 0, os.getppid())  # a mule, or a spooler
    assert caplog.records == []


def test_missing_threads_are_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The site's events would wait, and no log would show why."""
    assert not under(monkeypatch, b"2.0.26", 1, 1)
    assert not under(monkeypatch, b"2.0.26", 1, 1)
    assert ["enable-threads" in record.getMessage() for record in caplog.records] == [True]
    assert under(monkeypatch, b"2.0.26", 1, 1, enable_threads=True)
    assert under(monkeypatch, b"2.0.26", 1, 1, threads=b"4")
    assert under(monkeypatch, b"2.0.26", 1, 1, gevent=b"100")
