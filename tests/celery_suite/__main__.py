"""``make celery-suite``: runs Celery's unit and integration tests without the agent and with it, and compares.

Exits with 1 if a test's outcomes differ, or a job's reported state is not that of its stored result.
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
MAX_RERUNS = 30  # so many differing tests are run again, both ways: some of Celery's own fail now and then


def main() -> int:
    """Run the requested parts, and print the results."""
    parser = argparse.ArgumentParser(prog="make celery-suite ARGS=…", description=__doc__)
    parser.add_argument("source", type=Path, help="the unpacked source distribution")
    parser.add_argument("python", type=Path, help="the Python that has its requirements")
    parser.add_argument("--parts", default=",".join(PARTS), help="unit, integration or both (default)")
    parser.add_argument("--tests", nargs="*", default=[], help="only these tests, as pytest's arguments")
    options = parser.parse_args()
    suite = Suite(options.source.resolve(), options.python.absolute())  # a venv's Python is a link
    directory = Path(tempfile.mkdtemp(prefix="celery-suite-"))
    print(f"celery-suite: logs are in {directory}", flush=True)
    differences = [
        difference
        for part in options.parts.split(",")
        for difference in compared(suite, part, directory, options.tests)
    ]
    print(f"celery-suite: {len(differences)} differences", flush=True)
    return 1 if differences else 0


def compared(suite: Suite, part: str, directory: Path, tests: list[str]) -> list[Difference]:
    """Run `part` both ways, print its table, and return the differences."""
    with redis_for(part, directory / "redis-without") as (environment, _):
        without = run(suite, part, directory, environment, tests, agent=False)
    report(part, "without the agent", without)
    with (
        closing(Endpoint()) as endpoint,
        redis_for(part, directory / "redis-with") as (environment, client),
    ):
        settings = {**environment, **agent_settings(endpoint, part, directory)}
        within = run(suite, part, directory, settings, tests, agent=True)
        report(part, "with the agent", within)
        differences = differing_tests(without.outcomes, within.outcomes)
        if differences and len(differences) <= MAX_RERUNS:
            again = [difference.subject for difference in differences]
            without = run(suite, part, directory, environment, again, agent=False)
            report(part, "again, without it", without)
            within = run(suite, part, directory, settings, again, agent=True)
            report(part, "again, with it", within)
            differences = differing_tests(without.outcomes, within.outcomes)
        if client is not None:
            stored = stored_states(client)
            pairs, differing = differing_jobs(endpoint, stored)
            print(f"{part}: {len(endpoint.jobs())} jobs reported, {len(stored)} results stored, {pairs.total()} both")
            for (state, reported), count in sorted(pairs.items()):
                print(f"    stored {state:8} reported {reported:10} {count:6}")
            differences += differing
        differences += [Difference(fault, "", "a request that breaks the contract") for fault in endpoint.faults]
    for difference in differences:
        print(f"  DIFFERENT {difference.subject}\n    {difference.without}  |  {difference.within}", flush=True)
    return differences


def report(part: str, way: str, result: Run) -> None:
    """Print one row: the number of tests by outcome."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(result.outcomes.values()).items()))
    print(f"{part:12} {way:18} {len(result.outcomes):5} tests in {result.seconds:4.0f} s: {counts}", flush=True)


def agent_settings(endpoint: Endpoint, part: str, directory: Path) -> dict[str, str]:
    """Return the agent's settings: it ships to `endpoint` soon, but not in unit tests, which check for left threads."""
    state = directory / "state"
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
def redis_for(part: str, directory: Path) -> Iterator[tuple[dict[str, str], redis.Redis | None]]:
    """Yield the variables of the integration tests and a client of their broker; neither for unit tests."""
    if part != "integration":
        yield {}, None
        return
    with closing(RedisServer(directory)) as server, closing(redis.Redis(port=server.port)) as client:
        address = server.url()
        yield (
            {
                "TEST_BROKER": address,
                "TEST_BACKEND": address,
                "REDIS_HOST": "127.0.0.1",
                "REDIS_PORT": str(server.port),
                "C_FORCE_ROOT": "1",  # some accept pickle, which a worker refuses as root
            },
            client,
        )


if __name__ == "__main__":
    raise SystemExit(main())
