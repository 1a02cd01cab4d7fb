"""Runs pytest in a process that gevent patches before anything else is imported."""

from __future__ import annotations

import os
import sys

from gevent import monkey

monkey.patch_all()
os.environ["SLUICE_TEST_INSTALL"] = "0"  # `table_run` installs the agent, once the endpoint is known

import pytest  # noqa: E402 - after the patch

if __name__ == "__main__":
    # Not errors, as elsewhere: a worker runs in this process, and Celery warns of each fault of the result backend.
    sys.exit(pytest.main(["-W", "default", *sys.argv[1:]]))
