"""The shop's nightly report: scheduled over the jobs API, and triggered once now, as cron will in the night."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from examples.celery_app import schedules
from examples.demo.processes import DemoError, Process, wait_for

CONNECTION = "demo"
END_TIMEOUT = 20.0
"""Seconds in which the run must have ended once all events are delivered."""

KEY = re.compile(r"SLUICE_API_KEY=(\S+)")


@dataclass(frozen=True)
class Nightly:
    """The schedule, in the jobs API of a server, and the run that was triggered."""

    api: httpx.Client
    run_id: str

    def schedule(self) -> dict[str, Any]:
        """Return the schedule."""
        found: dict[str, Any] = self._get("/schedules", {"project_id": CONNECTION})[0]
        return found

    def ended(self, server: Process) -> dict[str, Any]:
        """Return the run once it has ended: its last event may just have come."""

        def ended() -> dict[str, Any] | None:
            run: dict[str, Any] = self._get(f"/runs/{self.run_id}")
            return run if "finished_at" in run else None

        found: dict[str, Any] = wait_for("the end of the nightly report", ended, server, END_TIMEOUT)
        return found

    def _get(self, path: str, parameters: dict[str, str] | None = None) -> Any:
        try:
            return self.api.get(path, params=parameters).raise_for_status().json()
        except httpx.HTTPError as error:
            raise DemoError(f"the jobs API does not answer GET {path}: {error}") from error


def set_up(command: Path, database: str, env: dict[str, str]) -> Nightly:
    """Schedule the report on the server of ``env``, trigger it, and return both."""
    create = ("key", "create", "--connection", CONNECTION, "--role", "operator", "--database", database)
    match = KEY.search(_output(command, create, env))
    if match is None:
        raise DemoError("sluice-agent key create has printed no key")
    url = env["SLUICE_API_URL"].removesuffix("/api") + "/v1"
    schedules.apply(url, match[1], CONNECTION)
    trigger = ("trigger", schedules.SCHEDULES[0]["slug"])
    run_id = _output(command, trigger, env | {"SLUICE_API_KEY": match[1]}).strip()
    headers = {"Authorization": f"Bearer {match[1]}"}
    return Nightly(httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=10), run_id)


def line(schedule: dict[str, Any], run: dict[str, Any]) -> str:
    """Return the schedule and the run in one line."""
    next_at = schedule["next_fire_at"].replace("T", " ").removesuffix(":00Z")
    return (
        f"{schedule['slug']}: cron {schedule['cron']} in {schedule['timezone']}, next at {next_at} UTC;"
        f" triggered once now: {run['status']}"
    )


def _output(command: Path, arguments: tuple[str, ...], env: dict[str, str]) -> str:
    finished = subprocess.run(  # noqa: S603 the command is the demo's own
        [str(command), *arguments], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    if finished.returncode:
        raise DemoError(f"sluice-agent {' '.join(arguments)}: {finished.stderr}")
    return finished.stdout
