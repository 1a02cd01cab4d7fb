"""The headers of an attempt's requests."""

from __future__ import annotations

from collections.abc import Mapping


def request_headers(run_id: str, job_id: str, attempt: int) -> dict[str, str]:
    """Return the headers of an attempt's requests."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "sluice-agent",
        "X-Run-ID": run_id,
        "X-Job-ID": job_id,
        "X-Attempt": str(attempt),
    }


def secret_headers(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of secrets, which are given by name."""
    return {f"X-Secret-{name}": value for name, value in secrets.items()}
