"""The systemd unit in examples/, checked by systemd itself, which is installed with the servers of these tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.process import ROOT
from tests.support.servers import binary

UNIT = ROOT / "examples" / "systemd" / "sluice-monitor.service"


def test_systemd_accepts_it(tmp_path: Path) -> None:
    """systemd ignores unknown directives: a misspelt one would leave the monitor unconfined."""
    # systemd-analyze checks that the program exists.
    unit = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text(), flags=re.MULTILINE)
    unit_file = tmp_path / UNIT.name
    unit_file.write_text(unit)
    assert systemd_errors(unit_file) == ""
    unit_file.write_text(unit.replace("Restart=always", "Restart=allways"))
    assert "Failed to parse" in systemd_errors(unit_file), "a validator that accepts everything checks nothing"


def systemd_errors(unit: Path) -> str:
    """Return the errors that `systemd-analyze verify` prints for a unit: it exits with 0 for most of them."""
    result = subprocess.run(
        [binary("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    return result.stderr
