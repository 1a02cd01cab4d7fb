"""Many workers that only send heartbeats: real messages on a real broker, as Celery's own workers send them.

`python -m tests.support.heartbeats COUNT FILE`: once FILE exists, every second worker
has stopped without sending `worker-offline`. Prints a line whenever all have sent a heartbeat.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

from celery.events.event import Event, get_exchange

from tests.integration.tasks import app

FREQUENCY = 2.0  # seconds between two heartbeats of a worker
PROMISED = 6.0  # seconds that it promises: on a busy machine this process may be late, and its workers are still alive
_ROUNDS = 20  # parts of that time, with an equal share of the workers in each


def name_of(number: int) -> str:
    """Return the worker's node name."""
    return f"celery@pod-{number}"


def main() -> None:
    """Send heartbeats until the process is ended."""
    count, file = int(sys.argv[1]), Path(sys.argv[2])
    with app.connection_for_write() as connection:
        producer = connection.Producer(exchange=get_exchange(connection), serializer="json")
        for turn in itertools.count():
            started = time.monotonic()
            halved = file.exists()
            for number in range(turn % _ROUNDS, count, _ROUNDS):
                if not (halved and (number // _ROUNDS) % 2):
                    fields = {"freq": PROMISED, "active": 0, "processed": 7, "sw_ver": "5.7.0", "sw_sys": "Linux"}
                    heartbeat = Event(
                        "worker-heartbeat", hostname=name_of(number), pid=1, clock=turn, utcoffset=0, **fields
                    )
                    producer.publish(heartbeat, routing_key="worker.heartbeat")
            if turn % _ROUNDS == _ROUNDS - 1:
                print("all have beaten", flush=True)
            time.sleep(max(FREQUENCY / _ROUNDS - (time.monotonic() - started), 0))


if __name__ == "__main__":
    main()
