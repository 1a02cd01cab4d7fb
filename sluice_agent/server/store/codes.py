"""The numbers that stand for states and frameworks in the database. They never change; a new value is appended."""

from __future__ import annotations

from sluice_agent.model import Framework, JobState, WorkerState

JOB_STATES = tuple(JobState)
WORKER_STATES = tuple(WorkerState)
FRAMEWORKS = tuple(Framework)
"""A code is the index in its tuple."""

JOB_STATE_CODES = {state.value: code for code, state in enumerate(JOB_STATES)}
WORKER_STATE_CODES = {state.value: code for code, state in enumerate(WORKER_STATES)}
FRAMEWORK_CODES = {framework.value: code for code, framework in enumerate(FRAMEWORKS)}
"""The codes by the values on the wire."""
