"""Settings of the agent in Django's ``settings.py``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from django.conf import settings
settings.configure(**json.loads(sys.argv[1]))
import sluice_agent.django
from sluice_agent import _public
try:
    sluice_agent.django.install()
except sluice_agent.ConfigError as error:
    print(json.dumps(str(error)))
else:
    given = _public.installed_options().settings
    print(json.dumps([given.batch_size, given.ignore_tasks, given.ackly_url, given.queues]))
"""


def installed(django: dict[str, object], env: dict[str, str]) -> object:
    """Return what an agent has that is installed with these settings of Django, or its error."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(django)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)


def test_both_are_read_and_the_environment_wins() -> None:
    """A project that keeps its settings in one file would have to repeat them; and a host could not differ from it."""
    names = ["a", "b*"]
    django = {
        "SLUICE_BATCH_SIZE": 7,
        "SLUICE_IGNORE_TASKS": names,
        "ACKLY_URL": "https://a.test",
        "SLUICE_QUEUES": True,
    }
    assert installed(django, {}) == [7, names, "https://a.test", True]
    assert installed(django, {"SLUICE_BATCH_SIZE": "8", "SLUICE_QUEUES": ""}) == [8, names, "https://a.test", True]


@pytest.mark.parametrize(
    ("django", "text"),
    [
        ({"SLUICE_BATCHSIZE": 7}, "SLUICE_BATCHSIZE, which the agent does not know"),
        ({"SLUICE_BATCH_SIZE": 0}, "SLUICE_BATCH_SIZE is malformed: 0"),
    ],
)
def test_a_mistake_is_named(django: dict[str, object], text: str) -> None:
    """A setting with a typo would count as unset, and nobody would notice."""
    assert text in str(installed(django, {}))
