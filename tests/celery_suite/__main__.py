"""``make celery-suite``: runs Celery's unit and integration tests without the agent and with it, and compares.

Exits with 1 where a test does not end alike, or a job's reported state is not that of its stored result.
"""

from __future__ import annotations

import argparse
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import redis

from tests.celery_suite.comparison import Difference, differing_jobs, differing_tests, stored_states
from tests.celery_suite.runner import Run, Suite, run
from tests.support.endpoint import Endpoint
from tests.support.servers import RedisServer

PARTS = ("unit", "integration")
RUN_AGAIN = 30  # tests that may differ by chance, as some of Celery's fail now and then: they are run again, both ways


def main() -> int:
    """Run the parts that are asked for, and print what came of them."""
    parser = argparse.ArgumentParser(prog="make celery-suite ARGS=…", description=__doc__)
    parser.add_argument("source", type=Path, help="the unpacked source distribution")
    parser.add_argument("python", type=Path, help="the Python that has its requirements")
    parser.add_argument("--parts", default=",".join(PARTS), help="unit, integration or both (default)")
    parser.add_argument("--tests", nargs="*", default=[], help="only these tests, as pytest's arguments")
    options = parser.parse_args()
    suite = Suite(options.source.resolve(), options.python.absolute())  # a venv's Python is a link
    folder = Path(tempfile.mkdtemp(prefix="celery-suite-"))
    print(f"celery-suite: logs are in {folder}", flush=True)
    found = [
        difference for part in options.parts.split(",") for difference in compared(suite, part, folder, options.tests)
    ]
    print(f"celery-suite: {len(found)} differences", flush=True)
    return 1 if found else 0


def compared(suite: Suite, part: str, folder: Path, tests: list[str]) -> list[Difference]:
    """Run `part` both ways and print its table; what differs."""
    with redis_for(part, folder / "redis-without") as (environment, _):
        without = run(suite, part, folder, environment, tests, agent=False)
    report(part, "without the agent", without)
    with (
        closing(Endpoint()) as endpoint,
        redis_for(part, folder / "redis-with") as (environment, client),
    ):
        settings = {**environment, **agent_settings(endpoint, part, folder)}
        within = run(suite, part, folder, settings, tests, agent=True)
        report(part, "with the agent", within)
        found = differing_tests(without.outcomes, within.outcomes)
        if found and len(found) <= RUN_AGAIN:
            again = [difference.subject for difference in found]
            without = run(suite, part, folder, environment, again, agent=False)
            report(part, "again, without it", without)
            within = run(suite, part, folder, settings, again, agent=True)
            report(part, "again, with it", within)
            found = differing_tests(without.outcomes, within.outcomes)
        if client is not None:
            stored = stored_states(client)
            pairs, differing = differing_jobs(endpoint, stored)
            print(f"{part}: {len(endpoint.jobs())} jobs reported, {len(stored)} results stored, {pairs.total()} both")
            for (state, reported), count in sorted(pairs.items()):
                print(f"    stored {state:8} reported {reported:10} {count:6}")
            found += differing
        found += [Difference(fault, "", "a request that breaks the contract") for fault in endpoint.faults]
    for difference in found:
        print(f"  DIFFERENT {difference.subject}\n    {difference.without}  |  {difference.within}", flush=True)
    return found


def report(part: str, way: str, result: Run) -> None:
    """Print one row: how many tests ended how."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(result.outcomes.values()).items()))
    print(f"{part:12} {way:18} {len(result.outcomes):5} tests in {result.seconds:4.0f} s: {counts}", flush=True)


def agent_settings(endpoint: Endpoint, part: str, folder: Path) -> dict[str, str]:
    """The agent reports to `endpoint`, soon; unit tests, which check that no thread is left, only fill its journal."""
    state = folder / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    return {
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_STATE_DIR": str(state),
        "SLUICE_FLUSH_INTERVAL": "0.2",
        "SLUICE_SHIP": "never" if part == "unit" else "auto",
    }


@contextmanager
def redis_for(part: str, folder: Path) -> Iterator[tuple[dict[str, str], redis.Redis | None]]:
    """What the integration tests read from the environment, and a client of their broker; nothing for unit tests."""
    if part != "integration":
        yield {}, None
        return
    with closing(RedisServer(folder)) as server, closing(redis.Redis(port=server.port)) as client:
        address = server.url()
        yield (
            {
                "TEST_BROKER": address,
                "TEST_BACKEND": address,
                "REDIS_HOST": "127.0.0.1",
                "REDIS_PORT": str(server.port),
                "C_FORCE_ROOT": "1",  # some accept pickle, which a worker of root's refuses
            },
            client,
        )


if __name__ == "__main__":
    raise SystemExit(main())
