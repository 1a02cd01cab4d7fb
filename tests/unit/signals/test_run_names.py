"""The names of runs."""

from __future__ import annotations

import pytest

from sluice_agent.signals.run_names import RunNames


def test_no_name_is_used_twice() -> None:
    """A run with the name of another one is taken for it, and is not shown."""
    names, others = RunNames(), RunNames()  # as in a restarted container: same name, same pid
    made = [named.next("celery@one") for _ in range(20_000) for named in (names, others)]
    assert len(set(made)) == len(made)


def test_a_forked_process_has_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """It continues its parent's count, and its eager tasks would have the names of those in its siblings."""
    names = RunNames()
    parents = names.next("celery@one")
    monkeypatch.setattr("os.getpid", lambda: 7)
    assert names.next("celery@one").rpartition(".")[0] != parents.rpartition(".")[0]
