"""Deduplication ids: two observers of one transition, such as a worker's signal and a broker's event, get the same id.

An id is a pure function of what happened. It depends neither on the time of observation
nor on the observer. Nothing of Celery is imported here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

_DIGEST_BYTES = 16  # 128 bits: two of 10**12 ids are equal with a chance of 10**-15
_UUID_LENGTH, _UUID_VERSION = 36, 14  # characters of a UUID as text, and the index of its version
_UUID_FORM = b"00000000-0000-0000-0000-000000000000"
_ZERO_DIGITS = bytes.maketrans(b"123456789abcdef", b"0" * 15)

_is_plain = re.compile(r"[\w:@/+-]{1,64}", re.ASCII).fullmatch  # a job's id that is used unchanged; UUIDs are


def is_random_id(text: str) -> bool:
    """Return whether Celery makes ids of jobs like this one: it is the same in ids of events and in JSON.

    It never recurs. A regular expression costs twice as much, and this runs several times around every task.
    """
    return text.isascii() and text.encode().translate(_ZERO_DIGITS) == _UUID_FORM and text[_UUID_VERSION] == "4"


def job_event_id(
    connection_id: str,
    external_id: str,
    state: str,
    attempt: int,
    *,
    run_name: str = "",
    progress: float | None = None,
) -> str:
    """Return the id of one transition of one job.

    `run_name` separates real runs of one attempt, and only those: see `agent_run_name`, `run_in` and `run_of`. Before
    any worker has the job, it separates publications: see `publication_of`. `progress` separates the reports of one
    run, which all share the state `active`.
    """
    return transition_id(execution_id(connection_id, external_id, attempt, run_name), state, progress)


def execution_id(connection_id: str, external_id: str, attempt: int, run_name: str = "") -> str:
    """Return the prefix of the ids of all transitions of one run: the state follows.

    It contains the job's id unchanged, so that an event can be found by it, and so that no task pays for a digest: the
    rest is the same for many jobs.
    """
    if not _is_plain(external_id):
        external_id = _digest(external_id)
    return f"{external_id}.{attempt}.{cached_scope_of(connection_id, run_name)}."


def scope_of(connection_id: str, run_name: str) -> str:
    """Return the part of the ids of a run that is the same for all transitions, and for no other run."""
    digest = _digest_of_connection(connection_id).copy()
    digest.update(run_name.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


@lru_cache(maxsize=16)
def _digest_of_connection(connection_id: str) -> blake2b:
    """Return the state of a digest that has read the connection: to go on from there halves the cost of each run."""
    return blake2b(f"{connection_id}\x1f".encode("utf-8", "backslashreplace"), digest_size=_DIGEST_BYTES)


cached_scope_of = lru_cache(maxsize=1024)(scope_of)
"""`scope_of` for scopes that many jobs share: of no run, or of one that a monitor names."""


def transition_id(prefix: str, state: str, progress: float | None = None) -> str:
    """Return the id of one transition of the run whose `execution_id` is `prefix`."""
    return prefix + state if progress is None else f"{prefix}{state}.{progress:.6f}"


def agent_run_name(hostname: str, pid: int, token: str, number: int) -> str:
    """Return the name of a run that a worker has received, as its agent names it: no other receipt has the same.

    `hostname` is the worker's node name, `pid` that of its main process, `token` is random and made once by that
    process, as a restarted container has the same two, and `number` counts what it has received.
    """
    return f"{hostname}/{pid}/{token}.{number}"


def is_named_by(run_name: str, pid: int) -> bool:
    """Return whether process `pid` has made `run_name`: see `agent_run_name`."""
    return f"/{pid}/" in run_name


def run_in(run_name: str, process: str) -> str:
    """Return the name of a run in the pool process of that number; empty: the worker's own process, or unknown.

    One receipt by a worker may lead to two runs: if a pool process dies before the worker has read that it took the
    job, the pool gives the job to another process.
    """
    return f"{run_name} in {process}" if process else run_name


def run_of(hostname: str, pid: int, receipt: int, redelivered: bool) -> str:
    """The name of one execution, as a monitor names it: who took the job, and for which time that process was given it.

    `hostname` is the worker's node name, `pid` that of its main process, and `receipt` counts from 0 how often that
    process has received this attempt of this job. `redelivered` says that the broker had handed it out before, which
    tells a container that was started again (same name, same pid) from its predecessor. Broker events carry or imply
    all four, so that a monitor that is started again, or another one, arrives at the same name.
    """
    return f"{hostname}/{pid}/{receipt}{'r' if redelivered else ''}"


def publication_of(external_id: str, when: str) -> str:
    """Return the text that separates the publication of a job at `when` from others under its id: see `job_event_id`.

    It is empty for an id that Celery has made, which is random. A process that has only received such a job, and does
    not know when it was published, then gets the same event id as its producer. An id that a caller chooses may recur.
    """
    is_random = len(external_id) == _UUID_LENGTH and external_id[_UUID_VERSION] == "4"
    return "" if is_random else f"@{when}"


def parent_of(external_id: str, parent_id: object) -> str | None:
    """Return the id of a job's parent, if it has one: Celery makes a job the parent of its own retry."""
    return str(parent_id) if parent_id and str(parent_id) != external_id else None


def truncated_id(external_id: str, limit: int) -> str:
    """Return a job's id in at most `limit` characters: a longer one as its beginning and a digest of the whole."""
    if len(external_id) <= limit:
        return external_id
    mark = f"~{_digest(external_id)}"
    return external_id[: limit - len(mark)] + mark


def worker_event_id(connection_id: str, external_id: str, state: str, pid: int, slot: int) -> str:
    """Return the id of a worker event. `slot` is the wall clock divided by the time in which two of them are one."""
    return _digest(f"worker\x1f{connection_id}\x1f{external_id}\x1f{state}\x1f{pid}\x1f{slot}")


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=_DIGEST_BYTES).hexdigest()
