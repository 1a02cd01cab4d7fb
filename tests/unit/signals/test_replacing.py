"""Which messages lead to the job that takes another's place, and so have to carry what is known of that one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery, Signature, chain

from sluice_agent.signals.replacing import leads_to

app = Celery("replacing", set_as_current=False)


@app.task(name="replacing.count")
def count() -> None: ...


def member(*links: Signature, task_id: str = "another") -> Any:
    made = count.si().set(task_id=task_id)
    for link in links:
        made.link(link)
    return made


@pytest.mark.parametrize(
    "first",
    [
        member(member(member(task_id="replaced"))),
        member(member(chain(member(), member(task_id="replaced")))),
    ],
)
def test_a_chain_of_task_protocol_1_leads_to_its_last(first: Any) -> None:
    """It is made of callbacks; where it does not carry what is known, `queued` of its last is sent under a known id."""
    body = json.loads(json.dumps({"id": "first", "callbacks": first.options["link"]}))
    assert leads_to("replacing.count", body, "replaced")
    assert not leads_to("replacing.count", body, "somebody's")


@pytest.mark.parametrize("callbacks", [None, [], {}, "callback", 5, [None, 5, {"options": {"link": 5}}]])
def test_callbacks_may_be_anything(callbacks: Any) -> None:
    """Another client may have written them."""
    assert not leads_to("replacing.count", {"callbacks": callbacks}, "replaced")
