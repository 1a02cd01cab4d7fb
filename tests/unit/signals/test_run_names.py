"""What executions are called."""

from __future__ import annotations

import pytest

from sluice_agent.signals.run import RunNames


def test_no_name_comes_twice() -> None:
    """A run that has the name of another one is taken for it, and is not shown."""
    names, others = RunNames(), RunNames()  # as of a container that is started again: same name, same pid
    made = [named.next("celery@one") for _ in range(20_000) for named in (names, others)]
    assert len(set(made)) == len(made)


def test_a_forked_process_has_names_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with its parent's count, and its eager tasks would have the names of its sister's."""
    names = RunNames()
    parents = names.next("celery@one")
    monkeypatch.setattr("os.getpid", lambda: 7)
    assert names.next("celery@one").rpartition(".")[0] != parents.rpartition(".")[0]
