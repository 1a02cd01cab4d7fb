"""`python -m tests.faults.publish COUNT [A_SECOND]`: publishes so many tasks (0: until the process is ended).

The broker is in the process's memory, so that only the agent reports them. Their ids end in a number.
"""

from __future__ import annotations

import sys
import time
import uuid

from kombu.transport.memory import Channel

from tests.faults.app import app, noop


def main(count: int, a_second: float) -> None:
    """Publish, and exit as a script does."""
    pause = 1 / a_second if a_second else 0.0
    name = uuid.uuid4()
    with app.producer_pool.acquire() as producer:
        published = 0
        while published < count or not count:
            noop.apply_async(producer=producer, task_id=f"{name}-{published}")
            published += 1
            if published % 1_000 == 0:
                for queue in Channel.queues.values():
                    queue.queue.clear()
            if pause:
                time.sleep(pause)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
