"""How many examples Hypothesis tries for a property: all in CI, a fifth at a desk, where the tests run often."""

from __future__ import annotations

import os

__all__ = ["EXAMPLES", "examples"]

EXAMPLES = os.environ.get("EXAMPLES", "full" if os.environ.get("CI") == "true" else "few")


def examples(full: int) -> int:
    """Return the number of examples to try, where CI tries `full`."""
    return full if EXAMPLES == "full" else max(1, full // 5)
