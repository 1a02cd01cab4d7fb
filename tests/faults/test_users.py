"""A process that changes its user after the agent was installed: `celery worker --uid`."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.faults.host import Host
from tests.support.endpoint import Endpoint
from tests.support.ingest_server import Exchange
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

NOBODY = 65_534
PRIVILEGES = {"TEST_PRIVILEGES": "1"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory in which every user may make directories, like /tmp."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    return path


def test_a_worker_that_drops_its_privileges_is_seen(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    tmp_path: Path,
    shared: Path,
) -> None:
    """Without it every event of `celery worker --uid` is lost: the journal would be root's, who ran `install()`."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    env = {"HOME": str(home), "XDG_STATE_HOME": "", "TMPDIR": str(shared), "SLUICE_STATE_DIR": "", **PRIVILEGES}
    worker = start_worker(app="tests.faults.app", concurrency=1, env=env, args=["--uid", "nobody"])
    job = producer(agent=False).run("from tests.integration.tasks import add; print(add.delay(1, 1).id)")
    wait_until(lambda: endpoint.states(job)[-1:] == ["completed"], 20, "nothing arrives", worker.tail)
    assert worker.terminate().code == 0
    assert {path.name: path.stat().st_uid for path in shared.glob("sluice*")} == {f"sluice-agent-{NOBODY}": NOBODY}
    assert list(home.iterdir()) == []
    assert "sluice-agent is off" not in worker.logs()


BECOMES_NOBODY = f"""
    import json, os
    from tests.faults.app import noop
    import sluice_agent
    if os.environ.get("BEFORE"):
        noop.delay()
        assert sluice_agent.flush(15)
    os.setgid({NOBODY})
    os.setuid({NOBODY})
    noop.delay()
    assert sluice_agent.flush(15)
    print(json.dumps(sluice_agent.stats()))
"""


@pytest.mark.parametrize("made", ["state", "journal"])
def test_a_directory_that_was_made_for_the_user_is_used(
    new_host: Callable[[Mapping[str, str]], Host], tmp_path: Path, made: str
) -> None:
    """Without it root makes its directory there, and the user for whom it was made is locked out for good."""
    state = tmp_path / "made"
    host = new_host({"SLUICE_STATE_DIR": str(state), **PRIVILEGES})
    for path in [state, host.journal][: 2 if made == "journal" else 1]:
        path.mkdir(mode=0o700)
        os.chown(path, NOBODY, NOBODY)
    process = host.start("-c", textwrap.dedent(BECOMES_NOBODY))
    assert process.wait() == 0, process.tail()
    assert host.journal.stat().st_uid == NOBODY
    assert len(host.endpoint.events) == 1


def test_a_process_that_captured_before_goes_on_as_the_user_that_it_has_become(
    new_host: Callable[[Mapping[str, str]], Host], tmp_path: Path, shared: Path
) -> None:
    """Without it a server that publishes as it loads, and then drops its privileges, loses all its events."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    directories = {"HOME": str(home), "XDG_STATE_HOME": "", "TMPDIR": str(shared), "SLUICE_STATE_DIR": ""}
    host = new_host({"SLUICE_STATE_DIR": str(shared), **PRIVILEGES})
    process = host.start("-c", textwrap.dedent(BECOMES_NOBODY), env={"BEFORE": "1", **directories})
    assert process.wait() == 0, process.tail()
    assert len(host.endpoint.events) == 2
    assert process.logs().count(f"This process now runs as user {NOBODY}") == 1
    assert "sluice-agent is off" not in process.logs()
    assert [path.stat().st_uid for path in shared.glob("sluice-*")] == [NOBODY]


SWITCHES_USERS = f"""
    import json, os, sys
    from pathlib import Path
    from tests.faults.app import noop
    from tests.support.waiting import wait_until
    import sluice_agent
    from sluice_agent import _public
    shared = Path(sys.argv[1])
    os.seteuid({NOBODY})
    noop.delay()
    wait_until((shared / "request-sent").exists, 20)
    former = _public._agent._process.shippers
    os.seteuid(0)
    noop.delay()
    (shared / "is-root").touch()
    for shipper in former._shippers:
        shipper.join()
    assert sluice_agent.flush(15)
    stats = [sluice_agent.stats()]
    os.seteuid({NOBODY})
    noop.delay()
    assert sluice_agent.flush(15)
    print(json.dumps([*stats, sluice_agent.stats()]))
"""


def test_a_process_that_is_another_user_for_a_while_keeps_the_counts_of_both(
    new_host: Callable[[Mapping[str, str]], Host], tmp_path: Path, shared: Path
) -> None:
    """Without it the events that a server delivers for a user, just as it becomes root again, are not counted."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    directories = {"HOME": str(home), "XDG_STATE_HOME": "", "TMPDIR": str(shared), "SLUICE_STATE_DIR": ""}
    host = new_host({"SLUICE_STATE_DIR": str(shared), **PRIVILEGES})
    endpoint = host.endpoint

    def answers_later(exchange: Exchange) -> bool:
        exchange.wait_for_release()
        return False

    endpoint.script(answers_later)
    process = host.start(
        "-c", textwrap.dedent(SWITCHES_USERS), str(shared), env={"TEST_SHORT_WAITS": "0", **directories}
    )
    wait_until(lambda: bool(endpoint.requests), 20, "nothing is sent", process.tail)
    (shared / "request-sent").touch()
    wait_until((shared / "is-root").exists, 20, "it is not root again", process.tail)
    endpoint.release()
    assert process.wait() == 0, process.tail()
    roots, users = json.loads(process.logs().splitlines()[-1])
    assert (roots["captured"], roots["delivered"]) == (1, 1)
    assert (users["captured"], users["delivered"]) == (2, 2), process.logs()
    assert len(endpoint.jobs()) == 3
    [directory] = shared.glob("sluice-agent-*")
    assert {path.stat().st_uid for path in directory.rglob("*")} == {NOBODY}
