"""`install` for a Django project: settings of the agent may also be in its ``settings.py``.

In the module that makes the Celery app, after ``DJANGO_SETTINGS_MODULE`` is set::

    import sluice_agent.django

    sluice_agent.django.install()
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sluice_agent import install as _install
from sluice_agent.errors import ConfigError
from sluice_agent.settings import Settings, variables

if TYPE_CHECKING:
    from sluice_agent.before_send import BeforeSend
    from sluice_agent.lifecycle.redaction import Redact

_PREFIXES = ("SLUICE_", "ACKLY_")


def install(*, before_send: BeforeSend | None = None, redact: Redact | None = None) -> None:
    """Start to capture events, with the settings ``SLUICE_…`` and ``ACKLY_…`` of Django, and as `sluice_agent.install`.

    A variable of the environment takes precedence over a setting of the same name. Raises `ConfigError` if a setting is
    malformed, or has a name that the agent does not know.
    """
    from django.conf import settings  # noqa: PLC0415 - a process without Django never calls this

    given = {name: getattr(settings, name) for name in dir(settings) if name.startswith(_PREFIXES)}
    _install(Settings(**_fields(given)), before_send=before_send, redact=redact)


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the agent's settings for those of Django that no variable overrides."""
    known = variables()
    if unknown := sorted(given.keys() - known.keys()):
        raise ConfigError(f"Django's settings have {', '.join(unknown)}, which the agent does not know: is it a typo?")
    return {known[name]: value for name, value in given.items() if value not in (None, "") and not os.environ.get(name)}
