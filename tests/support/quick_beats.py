"""Imported by a worker before `sluice_agent.jobs.tasks`: its executions are reported, and outcomes delivered, often.

So a test of workers that are lost takes seconds, where the engine waits a minute.
"""

from __future__ import annotations

from sluice_agent.jobs.worker import under_way

SECONDS = 0.5
under_way.BEAT_SECONDS = SECONDS
