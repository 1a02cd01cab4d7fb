"""The smallest example: a task, the two lines of sluice-agent, and a producer. It needs a Redis on this machine.

``celery -A smallest worker`` runs the worker, ``python smallest.py`` publishes twenty jobs.
"""

import time

from celery import Celery

import sluice_agent

sluice_agent.install()

app = Celery("smallest", broker="redis://localhost")


@app.task
def resize(photo: int) -> str:
    """Resize a photo. Each fifth is broken."""
    time.sleep(0.2)
    if photo % 5 == 0:
        raise ValueError(f"photo {photo} is no JPEG")
    return f"photo-{photo}.webp"


if __name__ == "__main__":
    for number in range(1, 21):
        resize.delay(number)
