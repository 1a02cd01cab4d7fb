"""The memory of a process, as the kernel accounts it."""

from __future__ import annotations

from pathlib import Path


def peak_bytes(pid: int) -> int:
    """Return the most bytes that were resident at a time since the process's program was started; 0 if it has ended."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    _, _, peak = status.partition("VmHWM:")
    return int(peak.split()[0]) * 1_024 if peak else 0
