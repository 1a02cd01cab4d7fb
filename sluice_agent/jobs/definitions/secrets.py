"""The secrets by which requests of a job are signed. They are those of its versions: a rotation is an update."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from sluice_agent.jobs.definitions.settings import settings_from
from sluice_agent.jobs.store.schema import job_version

GRACE = 86_400 * 1_000_000
"""Microseconds for which a secret signs along after it was replaced: receivers change theirs meanwhile."""


def signing_secrets(reader: Connection, job_id: str, now: int) -> tuple[str, ...]:
    """Return the secret of a job, and after it the one before if that was replaced within `GRACE`.

    A job without a secret has none, whatever it had before.
    """
    secrets: list[str] = []
    replaced_at = now
    with reader.execute(_VERSIONS, {"job": job_id}) as rows:
        for row in rows:
            secret = settings_from(row.settings).webhook_secret
            if replaced_at <= now - GRACE or (not secrets and not secret):
                break
            if secret and secret not in secrets:
                secrets.append(secret)
                if len(secrets) == 2:
                    break
            replaced_at = row.created_at
    return tuple(secrets)


_VERSIONS = (
    select(job_version.c.settings, job_version.c.created_at)
    .where(job_version.c.job_id == bindparam("job"))
    .order_by(job_version.c.version.desc())
)
