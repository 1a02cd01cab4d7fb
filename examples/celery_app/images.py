"""Photographs and films of the goods: long tasks that report progress, and sometimes exceed their time limit."""

import os
import random
import signal
import time

from celery import Task
from celery.exceptions import SoftTimeLimitExceeded

import sluice_agent
from examples.celery_app.celery import app

SIZES = (64, 160, 320, 640, 1280)


@app.task(name="images.resize")
def resize(photo: str) -> list[str]:
    """Produce a photograph in every size."""
    files = []
    for done, size in enumerate(SIZES, start=1):
        time.sleep(random.uniform(0.01, 0.03))
        files.append(f"{photo}-{size}.webp")
        sluice_agent.progress(done / len(SIZES))
    return files


@app.task(name="images.build_catalogue", bind=True)
def build_catalogue(self: Task, pages: int) -> int:
    """Lay out a catalogue page by page, with Celery's way to report progress."""
    for page in range(pages):
        self.update_state(state="PROGRESS", meta={"current": page, "total": pages})
        time.sleep(0.1)
    return pages


@app.task(name="images.decode_raw")
def decode_raw(photo: str, megapixels: int) -> str:
    """Decode a camera's raw file. One that is too large for the machine ends by SIGKILL, as from the kernel."""
    time.sleep(random.uniform(0.05, 0.1))
    if megapixels > 200:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{photo}.tiff"


@app.task(name="images.render_turntable", time_limit=1)
def render_turntable(product: str, frames: int) -> int:
    """Render a product from all sides, 10 ms a frame. After a second its process is killed."""
    time.sleep(frames / 100)
    return frames


@app.task(name="images.render_film", soft_time_limit=1, time_limit=10)
def render_film(product: str, frames: int) -> int:
    """Render a film, 10 ms a frame. After a second the soft time limit is raised: it cleans up and fails."""
    try:
        time.sleep(frames / 100)
    except SoftTimeLimitExceeded:
        time.sleep(0.02)
        raise
    return frames
