"""`python -m tests.faults.command …`: the command `sluice-agent …`, with the fault patches applied first.

With TEST_COST=1 it prints at its end how much processor time it used.
"""

from __future__ import annotations

import atexit
import os
import time

from tests.faults import fault_patches

if __name__ == "__main__":
    fault_patches.apply()
    if os.environ.get("TEST_COST") == "1":
        atexit.register(lambda: print("processor seconds:", time.process_time()))
    from sluice_agent.cli import main

    main()
