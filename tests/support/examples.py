"""How many examples Hypothesis tries for a property: all with EXAMPLES=full, as in `make acceptance`; a third in CI; a
fifth at a desk, where the tests run often."""

from __future__ import annotations

import os

__all__ = ["EXAMPLES", "examples"]

_SHARES = {"full": 1, "some": 3, "few": 5}
EXAMPLES = os.environ.get("EXAMPLES", "some" if os.environ.get("CI") == "true" else "few")


def examples(full: int) -> int:
    """Return the number of examples to try, of the `full` number."""
    return max(1, full // _SHARES[EXAMPLES])
