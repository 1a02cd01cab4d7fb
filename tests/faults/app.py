"""The app of the integration tests, after the prelude."""

from __future__ import annotations

from tests.faults import prelude

prelude.begin()

from tests.integration.tasks import app, noop, shared_task  # noqa: E402 - the agent is installed there

__all__ = ["app", "noop"]


@shared_task
def fan_out(method: str, count: int) -> list[str]:
    """Publish `count` tasks, each from a `multiprocessing` process of its own, and their ids."""
    import multiprocessing

    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # as one has to

    pool = multiprocessing.get_context(method).Pool(2, maxtasksperchild=1)
    ids = pool.map(publish_one, range(count), chunksize=1)
    pool.close()  # not `with`: that ends idle processes by SIGTERM, for which a fork of the worker has Celery's handler
    pool.join()
    return ids


def publish_one(_: int) -> str:
    """In a process that `fan_out` started."""
    return noop.delay().id
