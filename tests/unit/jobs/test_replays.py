"""Replays of all dead letters that match a filter: what they select, how far they are, and that they go on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from sluice_agent.jobs.definitions.jobs import Change, Job
from sluice_agent.jobs.runs import replays
from sluice_agent.jobs.runs.replays import HAS_REPLAY, Replay, begin_replay, cancel_replay, find_replay, go_on
from sluice_agent.jobs.runs.search import RunFilter
from sluice_agent.jobs.store.schema import run
from sluice_agent.server.errors import RefusedError
from tests.support.job_attempts import Attempts
from tests.unit.jobs.conftest import Project


class Shop(Attempts):
    """A project with dead letters, and the engine's steps."""

    def dead_letters(self, job: Job, count: int) -> list[str]:
        """Make dead letters, which have just ended."""
        ids = []
        for _ in range(count):
            self.pass_(0.001)
            ids.append(self.trigger(job))
        self.die(*ids)
        return ids

    def die(self, *ids: str) -> None:
        """Let runs end as dead letters."""
        ended = {"status": "dead_letter", "finished_at": self.store.moment, "error": "500", "error_class": "server"}
        with self.store.writing() as writer:
            writer.execute(update(run).where(run.c.id.in_(ids)).values(ended))
        self.pass_(1)

    def begin(self, id_: str | None = None, **wanted: Any) -> Replay:  # type: ignore[override]
        """Begin a replay."""
        with self.store.writing() as writer:
            change = Change("test", self.store.moment)
            return begin_replay(writer, RunFilter("project", **wanted), change, id_)

    def step(self) -> None:
        """Go on as an engine does."""
        with self.store.writing() as writer:
            go_on(writer, self.store.moment)

    def found(self, replay: Replay) -> Replay:
        """Return a replay as it is now."""
        with self.store.reading() as reader:
            return find_replay(reader, replay.id, None)

    def status(self, id_: str) -> str:
        """Return the status of a run."""
        return str(self.row(id_).status)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(replays, "MOST", 4)
    shop = Shop(tmp_path / "sluice.db")
    yield shop
    shop.store.close()


def test_all_that_match_begin_again_some_at_a_time(shop: Shop) -> None:
    """After an outage of an endpoint thousands would have to be selected, page by page; and other writers would wait
    for all of them."""
    mail, other = shop.job(), shop.job()
    ids, others = shop.dead_letters(mail, 10), shop.dead_letters(other, 2)
    replay = shop.begin(job_id=mail.id)
    assert (replay.total, replay.replayed, replay.state) == (10, 0, "running")
    for replayed, state in ((4, "running"), (8, "running"), (10, "completed")):
        shop.step()
        found = shop.found(replay)
        assert (found.replayed, found.refused, found.state) == (replayed, 0, state)
    assert {shop.status(id_) for id_ in ids} == {"queued"}
    assert {shop.status(id_) for id_ in others} == {"dead_letter"}
    with shop.store.reading() as reader:
        assert not reader.scalar(select(HAS_REPLAY))


def test_a_selection_begins_again(shop: Shop) -> None:
    """A selection would be replayed by other rules than a filter; or by its ids somebody could replay runs of another
    project, or what has ended well."""
    mail = shop.job()
    ids, rest = shop.dead_letters(mail, 6), shop.dead_letters(mail, 1)
    queued = shop.trigger(mail)
    replay = shop.begin(ids=[*ids, queued, "unknown"])
    assert replay.total == 6
    with shop.store.writing() as writer:
        assert begin_replay(writer, RunFilter("other", ids=ids), Change("test", shop.store.moment)).total == 0
    for _ in range(2):
        shop.step()
    assert (shop.found(replay).replayed, shop.found(replay).state) == (6, "completed")
    assert [shop.status(id_) for id_ in (*ids, *rest)] == ["queued"] * 6 + ["dead_letter"]


def test_no_run_is_replayed_twice(shop: Shop) -> None:
    """An e-mail would be sent again and again, as its run fails at once each time."""
    ids = shop.dead_letters(shop.job(), 6)
    replay = shop.begin()
    shop.step()
    again = [id_ for id_ in ids if shop.status(id_) == "queued"]
    assert ids[0] not in again, "the newest come first"
    shop.die(*again, ids[0])  # somebody has replayed the last one alone, and it has failed again
    later = shop.dead_letters(shop.job(), 1)
    shop.step()
    assert (shop.found(replay).replayed, shop.found(replay).state) == (5, "completed")
    assert [shop.row(id_).retries for id_ in ids] == [0, *[1] * 5]
    assert {shop.status(id_) for id_ in (*again, *later)} == {"dead_letter"}


def test_what_does_not_go_is_counted_with_its_reason(shop: Shop) -> None:
    """Who has replayed a thousand would take all for done; or one that is refused would keep the others waiting."""
    disabled, mail = shop.job(), shop.job()
    refused, gone = shop.dead_letters(disabled, 6), shop.dead_letters(mail, 3)
    shop.switch(disabled, enabled=False)
    replay = shop.begin()
    for _ in range(3):
        shop.step()
    found = shop.found(replay)
    assert (found.replayed, found.refused, found.state) == (3, 6, "completed")
    (refusals,) = found.refusals
    assert (refusals.reason, refusals.runs) == ("The job is disabled: enable it first.", 6)
    assert len(refusals.examples) == 5
    assert set(refusals.examples) < set(refused)
    assert {shop.status(id_) for id_ in gone} == {"queued"}


def test_a_replay_is_ended_by_its_user(shop: Shop) -> None:
    """A replay of the wrong runs would go on to its end."""
    ids = shop.dead_letters(shop.job(), 6)
    replay = shop.begin()
    shop.step()
    with shop.store.writing() as writer:
        assert cancel_replay(writer, replay.id, "project", shop.store.moment).state == "canceled"
        with pytest.raises(RefusedError, match="has ended"):
            cancel_replay(writer, replay.id, "project", shop.store.moment)
    shop.step()
    assert sorted(shop.status(id_) for id_ in ids) == ["dead_letter"] * 2 + ["queued"] * 4


def test_a_form_that_is_sent_twice_begins_one_replay(shop: Shop) -> None:
    """A double click would replay again what has failed since the first one."""
    id_ = str(uuid.uuid4())
    shop.dead_letters(shop.job(), 1)
    first = shop.begin(id_)
    shop.step()
    assert shop.begin(id_) == shop.found(first)
    with shop.store.writing() as writer, pytest.raises(RefusedError, match="another project"):
        begin_replay(writer, RunFilter("other"), Change("test", shop.store.moment), id_)
    shop.pass_(31 * 86_400)
    shop.begin()
    with pytest.raises(RefusedError, match="not found"):
        shop.found(first)


def test_the_api_shows_replays_to_their_project(project: Project) -> None:
    """A user of curl could not know how far a replay is, or would end one of others."""
    wanted = {"project_id": project.id, "search": "mail", "created_from": "2026-02-27T12:00:00Z"}
    begun = project.send("POST", "/replays", wanted, 202)
    assert begun["state"] == "completed", "nothing matches"
    assert (begun["total"], begun["search"], begun["created_from"]) == (0, "mail", "2026-02-27T12:00:00Z")
    assert project.send("GET", f"/replays/{begun['id']}") == begun
    assert project.send("GET", "/replays", params={"project_id": project.id}) == [begun]
    assert "ended" in project.refused("DELETE", f"/replays/{begun['id']}", status=409)
    selected = project.send("POST", "/replays", {"project_id": project.id, "ids": ["a", "b", "a"]}, 202)
    assert (selected["total"], selected["ids"]) == (0, ["a", "b"])
    for wrong in (
        {},
        {**wanted, "ids": [1]},
        {**wanted, "status": "failed"},
        {**wanted, "created_from": "soon"},
        {**wanted, "job_id": 1},
    ):
        project.refused("POST", "/replays", wrong)
    project.refused("GET", f"/replays/{uuid.uuid4()}", status=404)
