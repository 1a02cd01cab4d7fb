"""The fixtures of tests that `make packages` runs."""

from __future__ import annotations

from tests.support.fixtures import *  # noqa: F403 - a fixture is found by its name in this module
