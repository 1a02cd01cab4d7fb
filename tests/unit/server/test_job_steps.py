"""What is read of a job with many steps: the same as from all of them, and no more than is shown."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_agent.server.queries.job_steps import JobSteps
from sluice_agent.server.queries.selection import known_connections
from sluice_agent.server.queries.stored_job import find_head, steps_of
from sluice_agent.server.record.record import record_of, record_of_walk
from sluice_agent.server.record.summary import walk
from sluice_agent.server.store import IngestBatch
from sluice_agent.server.store.database import reading
from sluice_agent.server.store.memory import Memory
from tests.support.examples import examples
from tests.unit.server.lives import events, mixed, plain_life
from tests.unit.server.test_memory import File, file

__all__ = ["file"]

_numbers = count(1)


@settings(max_examples=examples(25))
@given(st.lists(events(), max_size=8), st.sampled_from([20, 1_000]), st.randoms(use_true_random=False))
def test_a_long_job_is_read_as_from_all_of_its_steps(
    file: File, others: Sequence[dict[str, Any]], walked_steps: int, chance: random.Random
) -> None:
    """Its page would show another state than its list; or an attempt twice, or not at all, to those who look back."""
    sent = mixed(plain_life(8) + list(others), chance)
    for _ in range(6):
        sent.insert(chance.randrange(len(sent)), sent.pop(chance.randrange(len(sent))))
    connection_id = str(UUID(int=next(_numbers)))
    file.writer.memory = Memory(file.driver, walked_steps=walked_steps, long_steps=18, part_steps=5)
    while sent:
        size = chance.choice([1, 1, 2, 7])
        batch, sent = sent[:size], sent[size:]
        with file.driver.transaction():
            own = [event | {"connectionId": connection_id} for event in batch]
            file.writer.write([IngestBatch(own, "2026-02-27")], now=0)
        if sent and chance.random() < 0.6:
            continue
        with reading(file.engine, {}) as reader:
            head = find_head(reader, {connection_id: known_connections(reader, None)[connection_id]}, "job-1")
            assert head is not None
            every = sorted(steps_of(reader, head), key=lambda step: step.order)
            steps, whole, expected = JobSteps(reader, head), walk(every), record_of(every)
            record = record_of_walk(steps.walked)
            states, earlier = list[Any](), None
            while earlier != 0:
                window = steps.window(earlier)
                assert window.total == len(whole.states)
                states, earlier = [*window.states, *states], window.earlier
                runs = [*whole.past, whole.summary.history]
                assert all(history == runs[history.runs - 1] for history in window.runs[:-1])
            assert [step for _, step in steps.numbered(0, len(every))][-6:] == every[-6:]
            middle = chance.randrange(len(every))
            assert steps.numbered(middle, middle + 4) == list(enumerate(every, 1))[middle : middle + 4]
            assert steps.total == len(every)
        assert states == whole.states
        assert record.pop("stateHistory") == expected.pop("stateHistory")[steps.walked.earlier :]
        assert record == expected
