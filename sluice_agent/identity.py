"""Deduplication ids: two observers of one transition, such as a worker's signal and a broker's event, get the same id.

An id is a pure function of what happened. The moment of observation and the observer are not in it. No Celery here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

_DIGEST_BYTES = 16  # 128 bits: two of 10**12 ids are equal with a chance of 10**-15
_UUID_LENGTH, _UUID_VERSION = 36, 14  # characters of a UUID as text, and the place of the one that says its version
_is_plain = re.compile(r"[\w:@/+-]{1,64}", re.ASCII).fullmatch  # a job's id that goes into ours as it is; UUIDs do


def job_event_id(
    connection_id: str,
    external_id: str,
    state: str,
    attempt: int,
    *,
    run: str = "",
    progress: float | None = None,
) -> str:
    """The id of one transition of one job.

    `run` separates real executions of one attempt, and only those: see `run_name`, `run_in` and `run_of`. Before any
    worker has the job, it separates publications: see `publication_of`. `progress` separates the reports of one
    execution, which all share the state `active`.
    """
    return transition_id(execution_id(connection_id, external_id, attempt, run), state, progress)


def execution_id(connection_id: str, external_id: str, attempt: int, run: str = "") -> str:
    """What the ids of all transitions of one execution begin with: the state follows.

    The job's id stands in it as it is, so that an event can be found by it, and so that no task pays for a digest: the
    rest is the same for many jobs.
    """
    if not _is_plain(external_id):
        external_id = _digest(external_id)
    return f"{external_id}.{attempt}.{_scope(connection_id, run)}."


@lru_cache(maxsize=1024)
def _scope(connection_id: str, run: str) -> str:
    return _digest(f"{connection_id}\x1f{run}")


def transition_id(execution: str, state: str, progress: float | None = None) -> str:
    """The id of one transition of the execution whose `execution_id` is given."""
    return execution + state if progress is None else f"{execution}{state}.{progress:.6f}"


def run_name(hostname: str, pid: int, life: str, number: int) -> str:
    """The name of what a worker has received, as its agent names it: nothing else that is received has the same.

    `hostname` is the worker's node name, `pid` that of its main process, `life` is random and made once by that
    process, as a container that is started again has the same two, and `number` counts what it has taken.
    """
    return f"{hostname}/{pid}/{life}.{number}"


def is_named_by(run: str, pid: int) -> bool:
    """Whether process `pid` is the one that has named `run`: see `run_name`."""
    return f"/{pid}/" in run


def run_in(run: str, process: str) -> str:
    """The name of the execution of `run` in the pool's process of that number; empty: the worker's own, or not known.

    Of what a worker has received once there may be two executions: where a pool process dies and the worker has not
    read from it that it took the job, the pool gives the job to another one.
    """
    return f"{run} in {process}" if process else run


def run_of(hostname: str, pid: int, receipt: int, redelivered: bool) -> str:
    """The name of one execution, as a monitor names it: who took the job, and for which time that process was given it.

    `hostname` is the worker's node name, `pid` that of its main process, and `receipt` counts from 0 how often that
    process has received this attempt of this job. `redelivered` says that the broker had handed it out before, which
    tells a container that was started again (same name, same pid) from its predecessor. Broker events carry or imply
    all four, so that a monitor that is started again, or another one, arrives at the same name.
    """
    return f"{hostname}/{pid}/{receipt}{'r' if redelivered else ''}"


def publication_of(external_id: str, when: str) -> str:
    """What separates the publication of a job at `when` from others under its id: see `job_event_id`.

    It is empty for an id that Celery has made, which is random. Who has only received such a job, and does not know
    when it was published, then arrives at the same event id as its producer. An id of the caller's own may come again.
    """
    is_random = len(external_id) == _UUID_LENGTH and external_id[_UUID_VERSION] == "4"
    return "" if is_random else f"@{when}"


def truncated_id(external_id: str, limit: int) -> str:
    """A job's id in at most `limit` characters: of a longer one the beginning, and a digest of the whole."""
    if len(external_id) <= limit:
        return external_id
    mark = f"~{_digest(external_id)}"
    return external_id[: limit - len(mark)] + mark


def worker_event_id(connection_id: str, external_id: str, state: str, pid: int, slot: int) -> str:
    """The id of one word of a worker. `slot` is the wall clock divided by the time in which two such words are one."""
    return _digest(f"worker\x1f{connection_id}\x1f{external_id}\x1f{state}\x1f{pid}\x1f{slot}")


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=_DIGEST_BYTES).hexdigest()
