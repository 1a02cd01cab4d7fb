"""Runs that have ended long ago are deleted, some at a time. Dead letters stay: they may be replayed."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import and_, bindparam, delete, or_, select, text

from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import attempt, job, run, run_log, run_tag
from sluice_agent.jobs.store.store import JobsStore

_SECOND = 1_000_000  # microseconds
_PAUSE = 3_600 * _SECOND  # after all jobs were looked at
_JOBS = 50  # that one call looks at
_RUNS = 500  # of a job that one transaction deletes
_LONGER = 3  # times the age, for runs whose end is looked into later
_SHORT = tuple(status.value for status in (Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.EXPIRED))
_LONG = tuple(status.value for status in (Status.TIMED_OUT, Status.CRASHED, Status.SYSTEM_FAILED))


class Retention:
    """Deletes the runs in `store` that are older than `keep`, counted from their end; None: none is deleted."""

    def __init__(self, store: JobsStore, keep: timedelta | None) -> None:
        self._store = store
        self._keep = None if keep is None else round(keep.total_seconds() * _SECOND)
        self._after = ""  # the job that was looked at last
        self._next_at = 0

    def delete_some(self, now: int) -> None:
        """Look at the next jobs, and delete some of their runs."""
        if self._keep is None or now < self._next_at:
            return
        with self._store.reading() as reader:
            jobs = reader.scalars(_NEXT_JOBS, {"after": self._after}).all()
        for job_id in jobs:
            if self._delete(job_id, now, self._keep) == _RUNS:
                return  # the next call goes on with this one
            self._after = job_id
        if len(jobs) < _JOBS:
            self._after, self._next_at = "", now + _PAUSE

    def _delete(self, job_id: str, now: int, keep: int) -> int:
        older = {"job": job_id, "short": now - keep, "long": now - _LONGER * keep}
        with self._store.reading() as reader:
            runs = list(reader.scalars(_OLD, older))
        if runs:
            with self._store.writing() as writer:
                for table in (run_tag, attempt, run_log):
                    writer.execute(delete(table).where(table.c.run_id.in_(runs)))
                writer.execute(delete(run).where(run.c.id.in_(runs)))
        return len(runs)


_NEXT_JOBS = select(job.c.id).where(job.c.id > bindparam("after")).order_by(job.c.id).limit(_JOBS)
_END = run.c.finished_at
_OLD = (
    select(run.c.id)
    .where(
        run.c.job_id == bindparam("job"),
        text("finished_at IS NOT NULL"),  # in the words of the index
        or_(
            and_(run.c.status.in_(_SHORT), bindparam("short", type_=_END.type) > _END),
            and_(run.c.status.in_(_LONG), bindparam("long", type_=_END.type) > _END),
        ),
        bindparam("short", type_=_END.type) > _END,
    )
    .order_by(_END)
    .limit(_RUNS)
)
