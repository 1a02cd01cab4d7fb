"""`python -m tests.support.jobs_serve PORT DATABASE BROKER SILENCE`: a server with an engine whose times are short.

The Celery tasks that may be jobs are in SLUICE_JOBS_TASKS and SLUICE_JOBS_QUEUES, as for `serve`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn

from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.server.actions.assembly import ActionOptions, brokers_of
from sluice_agent.server.app import create_app
from sluice_agent.server.protocol import Protocol
from sluice_agent.server.runner import open_listener, uvicorn_config


def main(port: int, database: str, broker: str, silence: float) -> None:
    """Serve until a signal comes. `silence` is the seconds after which an attempt is lost."""
    tasks, queues = (
        tuple(filter(None, os.environ.get(name, "").split(","))) for name in ("SLUICE_JOBS_TASKS", "SLUICE_JOBS_QUEUES")
    )
    options = EngineOptions(
        tasks=tasks,
        task_queues=queues,
        silence=silence,
        grace=1.5 * silence,
        claim=silence,
        lease=2.0,
        look=0.5,
        rare=min(silence / 8, 5.0),
        task_slack=silence,
    )
    app = create_app(
        database if database.startswith("postgresql:") else Path(database),
        has_jobs=True,
        engine=options,
        actions=ActionOptions(brokers_of((broker,), (), None, None)),
    )
    uvicorn.Server(uvicorn_config(app, Protocol)).run(sockets=[open_listener("127.0.0.1", port)])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]))
