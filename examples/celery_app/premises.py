"""The directory of the shop's files, private to its user."""

import os
import tempfile
from pathlib import Path


def directory(name: str) -> Path:
    """Return the shop's directory ``name``, created if absent."""
    home = os.environ.get("SHOP_FOLDER") or Path(tempfile.gettempdir()) / f"sluice-example-shop-{os.getuid()}"
    path = Path(home) / name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def first_time(name: str, key: str) -> bool:
    """Return True at the first call with this ``key``, over all processes."""
    try:
        (directory(name) / key).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
