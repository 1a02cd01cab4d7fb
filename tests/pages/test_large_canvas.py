"""The canvas of thousands of jobs in a browser. With 100,000 of them it has as much HTML."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from tests.support.chromium import session
from tests.support.local_sluice import local_sluice
from tests.support.shop import Shop, job_uuid

GROUPS, MEMBERS = 20, 100


def canvas() -> Iterator[dict[str, Any]]:
    """Return the last events of a root, of a group of jobs, and of a group of each of these: one job of all failed."""
    shop = Shop(datetime.now(timezone.utc))
    root = job_uuid("large")
    yield shop.job("large", "completed")[-1]
    for group in range(GROUPS):
        ids = {"rootId": root, "parentId": root, "groupId": job_uuid("large-groups")}
        yield shop.job(f"large-{group}", "completed", extensions=ids)[-1]
        for number in range(MEMBERS):
            ids = {"rootId": root, "parentId": job_uuid(f"large-{group}"), "groupId": job_uuid(f"large-group-{group}")}
            has_failed = (group, number) == (17, 60)
            name, state = ("shop.failed", "failed") if has_failed else ("shop.member", "completed")
            yield shop.job(f"large-{group}-{number}", state, name, extensions=ids)[-1]


def test_the_failed_branch_of_a_large_canvas_is_before_the_eyes(browser: Browser, tmp_path: Path) -> None:
    """A browser would hang over thousands of rows, in which one would have to look for the one that failed."""
    with local_sluice(tmp_path / "sluice.db") as server, session(browser, server.url) as opened:
        events = list(canvas())
        for start in range(0, len(events), 1_000):
            server.client().post("/ingest", json={"events": events[start : start + 1_000]}).raise_for_status()
        page = opened.context.new_page()
        answer = page.goto(f"{server.url}/canvas?rootId={job_uuid('large')}")
        assert answer is not None
        assert answer.request.sizes()["responseBodySize"] <= 60_000
        expect(page.locator(".canvas-sum").first).to_contain_text("failed 1")
        failed = page.get_by_role("link", name="shop.failed")
        expect(failed).to_be_in_viewport()
        assert page.locator("tbody tr").count() < 300
        page.get_by_role("link", name="more").first.click()  # the others can be reached
        expect(page.locator("h1")).to_contain_text("Members of a group")
        page.go_back()
        failed.click()
        expect(page.locator("h1")).to_contain_text("shop.failed")
