"""What the shop does only once, whichever process is asked for it: a file for each of these things."""

import os
import tempfile
from pathlib import Path


def first_time(name: str, key: str) -> bool:
    """Return True at the first call with this ``key``, over all processes. ``SHOP_FOLDER`` is the directory."""
    home = os.environ.get("SHOP_FOLDER") or Path(tempfile.gettempdir()) / f"sluice-example-shop-{os.getuid()}"
    directory = Path(home) / name
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        (directory / key).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
