"""Pictures of the pages of a running server: `make pictures ARGS="http://127.0.0.1:8787"`, for instance of `make demo`.

Each page in both modes and three widths, as files such as `job-dark-360.png`. The page of one job, task, queue, worker,
group of errors or canvas is that to which the first link of its list leads; where a list is empty, there is none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from playwright.sync_api import Page

from tests.support.chromium import chromium, session

WIDTHS = {360: 780, 960: 800, 1600: 1000}
"""Widths and heights of windows, in pixels."""

MODES = ("light", "dark")
LISTS = {
    "now": "/",
    "jobs": "/jobs",
    "failed-jobs": "/jobs?state=failed",
    "tasks": "/tasks",
    "queues": "/queues",
    "workers": "/workers",
    "errors": "/errors",
    "connections": "/connections",
    "settings": "/settings",
    "runs": "/runs",
    "dead-letters": "/dead-letters",
    "definitions": "/definitions",
    "schedules": "/schedules",
    "definition-new": "/definitions/new",
    "sign-in": "/login",
}
FIRST = {
    "job": ("failed-jobs", "^='/jobs/'"),
    "task": ("tasks", "^='/task?'"),
    "queue": ("queues", "^='/queue?'"),
    "worker": ("workers", "^='/worker?'"),
    "error": ("errors", "^='/error?'"),
    "canvas": ("job", "^='/canvas?'"),
    "run": ("runs", "^='/runs/'"),
    "dead-letter": ("dead-letters", "^='/runs/'"),
    "run-log": ("run", "*='/log'"),
    "replay": ("dead-letter", "*='/replay-as-new'"),
    "reschedule": ("run", "*='/reschedule'"),
    "definition": ("definitions", "^='/definitions/'][data-row-link"),
    "trigger": ("definition", "*='/trigger'"),
    "definition-edit": ("definition", "*='/edit'"),
    "clone": ("definition", "*='/clone'"),
    "dependencies": ("definition", "*='/dependencies'"),
    "version": ("definition", "*='/versions/'"),
}
"""Pages of one thing: where the first link whose address is so leads to it."""


def addresses(page: Page, url: str) -> Iterator[tuple[str, str]]:
    """Yield name and address of each page that there is."""
    found = {}
    for name, path in LISTS.items():
        response = page.goto(f"{url}{path}")
        if response is not None and response.ok:
            found[name] = page.url
            yield name, page.url
    for name, (source, address) in FIRST.items():
        if source not in found:
            continue
        page.goto(found[source])
        link = page.locator(f"main a[href{address}]").first
        if link.count():
            found[name] = f"{url}{link.get_attribute('href')}"
            yield name, found[name]


def take(page: Page, name: str, directory: Path, widths: Iterable[int], *, whole: bool) -> None:
    """Take the pictures of the page that is open."""
    if page.locator("body:not([data-types=''])").count():
        page.wait_for_selector("#live[data-state=live]")
    for width in widths:
        page.set_viewport_size({"width": width, "height": WIDTHS[width]})
        for mode in MODES:
            page.emulate_media(color_scheme=mode, reduced_motion="reduce")
            page.screenshot(path=directory / f"{name}-{mode}-{width}.png", full_page=whole)


def main() -> None:
    """Take the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(prog="make pictures", description=__doc__)
    parser.add_argument("url", help="address of the server, or a sign-in link")
    parser.add_argument("--directory", type=Path, default=Path("pictures"), help="where they are written")
    parser.add_argument("--only", help="names of pages, comma-separated; default: all")
    parser.add_argument("--width", type=int, choices=WIDTHS, help="only of this width")
    parser.add_argument("--whole", action="store_true", help="the whole page, not only what fits into the window")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    url = "/".join(options.url.split("/")[:3])
    with chromium() as browser, session(browser, url) as opened:
        page = opened.open("/")
        page.goto(options.url)
        found = dict(addresses(page, url))
        for name in options.only.split(",") if options.only else found:
            if name not in found:
                print(f"{name}: there is none")
                continue
            page.goto(found[name])
            take(page, name, options.directory, [options.width] if options.width else [*WIDTHS], whole=options.whole)
            print(f"{name}: {found[name]}")


if __name__ == "__main__":
    main()
