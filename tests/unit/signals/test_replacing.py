"""Messages that lead to a replacement, and so have to carry the agent header of the job."""

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
    signature = count.si().set(task_id=task_id)
    for link in links:
        signature.link(link)
    return signature


@pytest.mark.parametrize(
    "first",
    [
        member(member(member(task_id="replaced"))),
        member(member(chain(member(), member(task_id="replaced")))),
    ],
)
def test_a_chain_of_task_protocol_1_leads_to_its_last(first: Any) -> None:
    """It consists of callbacks; without the header, a second `queued` of its last is sent under a known id."""
    body = json.loads(json.dumps({"id": "first", "callbacks": first.options["link"]}))
    assert leads_to("replacing.count", body, "replaced")
    assert not leads_to("replacing.count", body, "unrelated")


@pytest.mark.parametrize("callbacks", [None, [], {}, "callback", 5, [None, 5, {"options": {"link": 5}}]])
def test_callbacks_may_be_anything(callbacks: Any) -> None:
    """Another client may have written them."""
    assert not leads_to("replacing.count", {"callbacks": callbacks}, "replaced")
