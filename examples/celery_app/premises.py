"""Where the shop keeps its files: a folder of its own, private to its user."""

import os
import tempfile
from pathlib import Path


def directory(name: str) -> Path:
    """The folder ``name`` of the shop, made if it is not there."""
    home = os.environ.get("SHOP_FOLDER") or Path(tempfile.gettempdir()) / f"sluice-example-shop-{os.getuid()}"
    path = Path(home) / name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def first_time(name: str, key: str) -> bool:
    """Whether nobody has asked for this ``key`` before, in whichever process."""
    try:
        (directory(name) / key).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
