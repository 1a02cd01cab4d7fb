"""The shop's application, where no server has to run: its broker and its result backend are directories.

``BROKER_URL`` names another broker. The directories are below ``SHOP_FOLDER``, which `examples.demo` sets.
"""

import os
from pathlib import Path

from examples.celery_app.celery import app
from examples.demo import folder_broker

__all__ = ["app"]

_results = Path(os.environ["SHOP_FOLDER"]) / "results"
_results.mkdir(mode=0o700, parents=True, exist_ok=True)
app.conf.update(result_backend=f"file://{_results}", result_chord_retry_interval=0.5)
if "BROKER_URL" not in os.environ:
    app.conf.update(folder_broker.settings(Path(os.environ["SHOP_FOLDER"]) / "broker"))
