"""Signs of life: the runs that a worker executes, and which of its requests have become useless."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, select, update

from sluice_agent.jobs.status import UNDER_WAY, Status
from sluice_agent.jobs.store.id_lists import id_list
from sluice_agent.jobs.store.schema import run

_GROUP = 500  # ids of one statement


def note_beat(writer: Connection, executions: Mapping[str, str], now: int) -> list[str]:
    """Record that these executions go on, each with its run's id, and return those whose requests are to be aborted.

    Only its worker knows the name of an execution, and so no other client keeps a run alive. To be aborted is what has
    ended, as by a cancellation, what another execution has started since, and what was deleted. A run that was taken
    for lost is not, while its next attempt has not started: the answer still counts. Nor is a request whose endpoint
    has ended the run itself by a call: it has its deadline.
    """
    pairs = sorted(executions.items())
    unwanted = []
    for start in range(0, len(pairs), _GROUP):
        group = pairs[start : start + _GROUP]
        found = {row.id: row for row in writer.execute(_FIND, {"ids": id_list({run_id for _, run_id in group})})}
        alive = []
        for execution, run_id in group:
            row = found.get(run_id)
            if row is None or row.execution != execution or row.status not in _GOES_ON:
                unwanted.append(execution)
            elif row.status == Status.EXECUTING.value:
                alive.append(run_id)
        if alive:
            writer.execute(_BEAT, {"ids": id_list(alive), "now": now})
    return unwanted


_GOES_ON = {status.value for status in (*UNDER_WAY, Status.COMPLETED, Status.FAILED)}
_FIND = select(run.c.id, run.c.status, run.c.execution).where(run.c.id.in_(bindparam("ids", expanding=True)))
_ALIVE = (
    select(run.c.id)
    .where(run.c.id.in_(bindparam("ids", expanding=True)), run.c.status == Status.EXECUTING.value)
    .with_for_update(skip_locked=True)  # what another transaction is changing is alive anyway
)
_BEAT = (
    update(run)
    .where(run.c.id.in_(_ALIVE), run.c.status == Status.EXECUTING.value)
    .values(heartbeat_at=bindparam("now"))
)
