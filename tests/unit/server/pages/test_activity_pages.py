"""Now, tasks, queues and workers as pages: what they show of a quarter of an hour, and where their links lead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sluice_agent.server.access.setup import AccessOptions
from sluice_agent.server.access.worker_environment import LOCAL_CONNECTION
from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.server.events import Clock, at, ingest, job_event, run, snapshot, worker_event
from tests.unit.server.pages.conftest import HTML

NOW = 20 * 60 + 30
CLOCK = Clock()
CLOCK.seconds = NOW
HOSTILE = "../../x?y#z%00<script>alert(1)</script>\u202egnp.exe"
Page = Any


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server in which it is half a minute after twenty past ten."""
    with local_sluice(tmp_path_factory.mktemp("activity") / "sluice.db", now=CLOCK) as server:
        ingest(server.client(), *(event for events in _events() for event in events))
        yield server


def _events() -> Iterator[list[Any]]:
    """From five to ten past, and in the last minutes, jobs ran; between nothing is known."""
    for minute in (*range(5, 10), *range(15, 20)):
        for second in (0, 10, 20):
            yield run("shop.mail", minute * 60 + second, "completed")
        yield run("shop.mail", minute * 60 + 30, "failed", error="SMTPError: refused")
        yield run("shop.report", minute * 60, "completed", seconds=8, queue="slow")
    yield [
        job_event("queued", 1_229, externalId=f"elsewhere {n}", name="shop.mail", queue="other", createdAt=at(1_229))
        for n in range(12)
    ]
    yield run("shop.rare", 1_100, "failed", queue="slow", error="OtherError: no")
    yield run(HOSTILE, 1_150, "completed", queue=HOSTILE, workerId=HOSTILE)
    yield [
        job_event("queued", 600 + n, externalId=f"waits {n}", name="shop.mail", queue="mail", createdAt=at(600 + n))
        for n in range(3)
    ]
    started = {"createdAt": at(100), "startedAt": at(101), "workerId": "celery@gone"}
    yield [job_event("active", 101, externalId="hangs", name="shop.mail", queue="mail", **started)]
    for minute in (*range(5, 10), *range(15, 20)):
        yield [snapshot("mail", minute * 60, 10 * minute - 40, consumers=2)]
    facts = {"concurrency": 4, "activeJobs": 1, "queues": ["mail"]}
    new = {"software": "celery 5.6.0", "python": "3.12.4", "agent": "0.1.0", "dropped": {"disk_full": 3}}
    old = {"software": "celery", "softwareVersion": "5.4.0", "python": "3.11.9", "agent": "0.1.0"}
    yield [worker_event("heartbeat", 1_200 + n, "celery@w", metadata=new, **facts) for n in (0, 5, 10, 15, 20, 28)]
    yield [worker_event("heartbeat", 900 + n, "celery@gone", metadata=old, **facts) for n in (0, 5, 10)]
    yield [worker_event("offline", 1_000, "celery@ended", metadata=old)]


@pytest.fixture(scope="module")
def page(server: LocalSluice) -> Page:
    """Return the pages of the module's server."""
    return page_of(server)


def page_of(server: LocalSluice) -> Page:
    """Return a function: `page(path, **parameters)` is the tree of a page."""
    client = server.client(HTML, path="")

    def page(path: str, status: int = 200, **parameters: str) -> Element:
        response = client.get(path, params=parameters)
        assert response.status_code == status, response.text
        return parse_html(response.text)

    return page


def row(page: Element, key: str) -> list[str]:
    """Return the texts of the cells of the row with this key."""
    return [cell.text for cell in page.one("tr", data_key=key).all("td")]


def headings(page: Element) -> list[str]:
    """Return the texts of the headings of sections."""
    return [" ".join(heading.text.split()) for heading in page.one("main").all("h2")]


def table_of(page: Element, key: str) -> dict[str, list[str]]:
    """Return the table behind a plot: the cells by the text of the row's head, from the first to the last."""
    (body,) = page.one("figure", data_key=f"plot-{key}").all("tbody")
    rows = {line.all("th")[0].text: [cell.text for cell in line.all("td")] for line in body.all("tr")}
    return dict(reversed(rows.items()))


def test_now_begins_with_what_is_wrong(page: Page) -> None:
    """Who looks for one second must see whether anything is wrong, and where."""
    now = page("/")
    findings = [" ".join(item.text.split()) for item in now.all("li") if "finding" in item.attributes.get("class", "")]
    assert findings == [
        "1 job runs for much longer than others of the same task.",
        "1 job is active on a worker that is gone, or was started again since.",
        "celery@gone stopped reporting 5 min 20 s ago without ending; 1 job was active then.",
        "Queue mail: the oldest job waits for 10 min 30 s, and it grew from 10 to 150 in 15 min.",
        "shop.mail failed in the last hour: 10 of 40 jobs (25 %).",
        "And 1 more task failed in the last hour: 1 job.",
    ]
    assert now.one("head").one("title").text.startswith("Now · 6 wrong")
    assert row(now, "shop.mail") == ["shop.mail", "1", "18 min 49 s", "hangs"]
    assert row(now, "mail")[:3] == ["mail", "150", "10 min 30 s"]


def test_links_of_findings_lead_to_exactly_these_jobs(page: Page) -> None:
    """A user who follows one would have to find the jobs a second time."""
    links = [item.all("a")[0]["href"] for item in page("/").one("ul", class_="findings").all("li")]
    for href, expected in zip(links, (["hangs"], ["hangs"], None, None, 10, None), strict=True):
        target = page(urlsplit(href).path, **{name: value for name, (value,) in parse_qs(urlsplit(href).query).items()})
        if isinstance(expected, list):
            assert [key["title"] for key in target.all("code") if "title" in key.attributes] == expected
        elif expected:
            assert len([line for line in target.all("tr") if "data-key" in line.attributes]) == expected


@pytest.mark.parametrize("problem", ["slow", "lost", "expired", "overdue"])
def test_jobs_with_a_problem_have_a_sentence_on_it(page: Page, problem: str) -> None:
    """A user would see jobs that are called slow, and not what to do about them."""
    (explanation,) = page("/jobs", problem=problem).all("p", class_="notice notice-retrying explanation")
    assert explanation.text.startswith(("A job here", "The ETA of a job here"))


def test_what_is_not_known_is_a_gap(page: Page) -> None:
    """An outage would look like a time in which no job ran."""
    table = table_of(page("/"), "throughput")
    assert table["10:09"] == ["1", "4"]
    assert table["10:12"] == ["–", "–"]
    assert table["10:20"] == ["0", "0"]
    gaps = [title.text for title in page("/").all("title") if title.text.endswith("nothing is known")]
    assert gaps[1] == "10:11 to 10:15 UTC: nothing is known"


def test_a_server_without_events_names_the_next_command(tmp_path: Path) -> None:
    """Whoever has just started the server would see an empty page."""
    with local_sluice(tmp_path / "empty.db", now=CLOCK) as server:
        client = server.client(HTML, path="")
        page = parse_html(client.get("/").text)
        assert f"SLUICE_API_URL={client.base_url}/api" in page.text.replace("//api", "/api")
        words = page.text.split()
        assert {"SLUICE_API_KEY=sk_local", f"SLUICE_CONNECTION_ID={LOCAL_CONNECTION}"} <= set(words)
        assert "key create" not in page.text
        for path in ("/tasks", "/queues", "/workers"):
            assert client.get(path).status_code == 200


def test_a_server_with_one_key_names_the_command_that_makes_a_connection(tmp_path: Path) -> None:
    """Workers would send events with a key that the server refuses."""
    with local_sluice(tmp_path / "empty.db", now=CLOCK, options=AccessOptions(api_key="sk_own")) as server:
        page = parse_html(server.client(HTML, path="").get("/").text)
        assert "sluice-agent key create --connection shop --role ingest" in page.text
        assert "SLUICE_API_KEY=sk_local_…" in page.text


def test_many_tasks_and_workers_are_on_several_pages(tmp_path: Path) -> None:
    """With four hundred tasks the page would be too large for a phone, or end after the first hundred."""
    with local_sluice(tmp_path / "many.db", now=CLOCK) as server:
        tasks = [event for n in range(101) for event in run(f"task {n:03}", NOW - 60, "completed")]
        workers = [worker_event("heartbeat", NOW - 1, f"celery@{n:03}") for n in range(101)]
        ingest(server.client(), *tasks, *workers)
        client = server.client(HTML, path="")
        for path, last in (("/tasks?sortBy=name&sortOrder=asc", "task 100"), ("/workers", "celery@100")):
            first = parse_html(client.get(path).text)
            assert len(first.one("tbody").all("tr")) == 100
            second = parse_html(client.get(first.one("a", rel="next")["href"]).text)
            assert [line["data-key"] for line in second.one("tbody").all("tr")] == [last]
            assert "Page 2 of 2" in second.one("nav", class_="pager").text


def test_nothing_wrong_is_said(tmp_path: Path) -> None:
    """An empty list of problems may also be one that was not read."""
    with local_sluice(tmp_path / "fine.db", now=CLOCK) as server:
        ingest(server.client(), *run("shop.mail", NOW - 60, "completed"))
        page = parse_html(server.client(HTML, path="").get("/").text)
    assert "Nothing is wrong. As far as is known since 2026-02-27 10:19:30 UTC." in page.text
    assert page.one("head").one("title").text.startswith("Now · nothing wrong")


def test_tasks_have_rates_failures_and_percentiles(page: Page) -> None:
    """The slow and the failing task could not be told from others."""
    tasks = page("/tasks")
    name, _, _, failed, *percentiles = row(tasks, "shop.mail")
    assert (name, failed) == ("shop.mail", "25 %")
    assert len(percentiles) == 6
    assert page("/tasks", search="REPORT").one("h1").text == "Tasks 1"
    assert "No task with this text" in page("/tasks", search="absent").text


@pytest.mark.parametrize("sort", ["name", "rate", "failures", "wait", "run"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_tasks_are_sorted_by_each_column(page: Page, sort: str, order: str) -> None:
    """The worst of four hundred tasks could not be found."""
    tasks = page("/tasks", sortBy=sort, sortOrder=order)
    names = [line["data-key"] for line in tasks.all("tr") if "data-key" in line.attributes]
    last = {"name": "shop.report", "rate": "shop.mail", "failures": "shop.rare", "run": "shop.report"}.get(sort)
    assert len(names) == 4
    assert last is None or names[0 if order == "desc" else -1] == last
    (header,) = [cell for cell in tasks.all("th") if "aria-sort" in cell.attributes]
    assert header["aria-sort"] == ("descending" if order == "desc" else "ascending")


def test_a_task_over_time(page: Page) -> None:
    """Whether a task became slow, or fails since a release, can't be seen from one number."""
    task = page("/task", name="shop.mail")
    assert table_of(task, "throughput")["10:16"] == ["1", "3"]
    assert table_of(task, "waits")["10:12"] == ["–", "–"]
    assert table_of(task, "runs")["10:16"][1].endswith(" s")
    assert sum(int(cells[0]) for cells in table_of(task, "histogram").values()) == 40
    assert row(task, "mail")[:3] == ["mail", "41", "25 %"]
    assert row(task, "SMTPError")[:2] == ["SMTPError", "10"]
    assert not task.all("tr", data_key="OtherError")
    assert "SMTPError: refused" in task.text


def test_queues_have_the_vendors_fields_and_who_waits(page: Page) -> None:
    """How long the oldest job waits is what users of the tasks feel."""
    queues = page("/queues")
    assert row(queues, "mail")[:4] == ["mail", "150", "3", "10 min 30 s"]
    assert row(queues, "slow")[:4] == ["slow", "not reported", "0", "none"]
    assert (row(queues, "slow")[8], row(queues, "other")[8]) == ("0", "+0.6")
    queue = page("/queue", name="mail")
    assert table_of(queue, "depth")["10:16"] == ["120"]
    assert table_of(queue, "depth")["10:12"] == ["–"]
    assert table_of(queue, "flow")["10:16"] == ["4", "4"]
    assert table_of(queue, "flow")["10:10"] == ["3", "0"]
    assert [line.all("code")[0].text for line in queue.all("tr") if line.all("code")] == [
        "waits 0",
        "waits 1",
        "waits 2",
    ]


def test_queues_are_in_the_order_that_the_arrow_says(tmp_path: Path) -> None:
    """The deepest queue would stand below one of which workers have taken more in advance."""
    with local_sluice(tmp_path / "depths.db", now=CLOCK) as server:
        taken = [job_event("queued", NOW - 9, externalId=f"taken {n}", queue="taken", name="t") for n in range(9)]
        depths = {"taken": 1, "deep": 5, "empty": 0}
        ingest(server.client(), *taken, *(snapshot(name, NOW - 1, depth) for name, depth in depths.items()))
        listed = [line["data-key"] for line in page_of(server)("/queues").all("tr") if "data-key" in line.attributes]
    assert listed == ["deep", "taken", "empty"]


def test_columns_of_what_nobody_reports_are_left_out(tmp_path: Path) -> None:
    """On a phone half of each queue would be "not reported", and of each worker a dash."""
    with local_sluice(tmp_path / "columns.db", now=CLOCK) as server:
        ingest(server.client(), *run("t", NOW - 9, "completed"), worker_event("heartbeat", NOW - 1, "celery@w"))
        page = page_of(server)
        headers = [header.text for path in ("/queues", "/workers") for header in page(path).all("th")]
    assert not {"Depth", "Consumers", "Python", "Agent"} & set(headers)


def test_a_queue_that_no_worker_consumes_is_listed(page: Page) -> None:
    """A misspelt queue is seen by its jobs that wait, and by nothing else."""
    assert row(page("/queues"), "other")[:4] == ["other", "not reported", "12", "1.00 s"]
    assert page("/queue", name="other").one("h1").text == "other"


def test_workers_have_their_versions_side_by_side(page: Page) -> None:
    """The one worker that was not deployed again could not be found."""
    workers = page("/workers")
    assert "1 × Celery 5.6.0, Python 3.12.4, agent 0.1.0" in workers.text
    state, name, active, *_ = row(workers, "celery@w")
    assert (state, active) == ("online", "1 of 4")
    assert name == "celery@wIts agent has dropped 3 events"
    assert row(workers, "celery@gone")[0] == "offline"
    assert row(workers, "celery@gone")[5:8] == ["5.4.0", "3.11.9", "0.1.0"]
    gone = {line["data-key"] for line in page("/workers", state="offline").all("tr") if "data-key" in line.attributes}
    assert gone == {"celery@gone", "celery@ended"}


def test_a_worker_and_what_it_runs(page: Page) -> None:
    """What a worker that was killed was doing then is the first question."""
    worker = page("/worker", id="celery@gone")
    assert "What it was running 1" in worker.text
    assert [code.text for code in worker.all("code")][:1] == ["hangs"]
    assert table_of(worker, "active")["10:15"] == ["1"]
    assert table_of(worker, "active")["10:19"] == ["–"]
    assert table_of(page("/worker", id="celery@w"), "throughput")["10:16"] == ["1", "4"]


@pytest.mark.parametrize("path", ["/task", "/queue", "/worker"])
def test_what_is_not_known_is_a_page_with_a_way_on(page: Page, path: str) -> None:
    """An old link would end in an empty page."""
    missing = page(path, 404, **{"id" if path == "/worker" else "name": "absent"})
    assert f"{path}s lists those that" in missing.text


@pytest.mark.parametrize("time_range", ["1h", "24h", "7d"])
@pytest.mark.parametrize("path", ["/tasks", "/task", "/queues", "/queue", "/workers", "/worker"])
def test_hostile_names_are_text_in_every_window(page: Page, path: str, time_range: str) -> None:
    """A task's name could run a script in the browser of an operator."""
    parameters = {} if path.endswith("s") else {"id" if path == "/worker" else "name": HOSTILE}
    if path == "/worker":
        page(path, 404, timeRange=time_range, **parameters)
        return
    shown = page(path, timeRange=time_range, **parameters)
    assert [script.attributes.get("src") for script in shown.all("script") if not script.attributes.get("src")] == []
    if path != "/workers":
        assert "../../x?y#z%00<script>alert(1)</script>\\u202egnp.exe" in shown.text


def test_a_page_of_the_last_hour_is_small(server: LocalSluice) -> None:
    """On a phone each change would load for seconds."""
    client: httpx.Client = server.client({**HTML, "Accept-Encoding": "gzip"}, path="")
    for path in ("/", "/tasks", "/task?name=shop.mail", "/queue?name=mail", "/worker?id=celery@w"):
        with client.stream("GET", path) as response:
            assert sum(map(len, response.iter_raw())) < 60_000


def test_nothing_wrong_names_the_failures_that_are_few(tmp_path: Path) -> None:
    """That nothing is wrong would not be true for whoever waits for one of five jobs that failed."""
    with local_sluice(tmp_path / "few.db", now=CLOCK) as server:
        completed = [event for n in range(600) for event in run("shop.mail", NOW - 60 - n / 100, "completed")]
        failed = [event for n in range(5) for event in run("shop.mail", NOW - 80 - n, "failed", error="SMTPError: no")]
        ingest(server.client(), *completed, *failed)
        page = parse_html(server.client(HTML, path="").get("/").text)
    assert "Nothing is wrong." in page.text
    assert "In the last hour 5 of 605 jobs failed (0.8 %)." in page.text


def test_an_old_snapshot_is_not_the_present(tmp_path: Path) -> None:
    """A queue that was removed long ago would have its last depth for ever."""
    with local_sluice(tmp_path / "old.db", now=CLOCK) as server:
        ingest(server.client(), snapshot("removed", NOW - 301, 150), snapshot("mail", NOW - 299, 7, consumers=1))
        page = page_of(server)
        assert (row(page("/queues"), "removed")[1], row(page("/queues"), "mail")[1]) == ("not reported", "7")
        assert [line["data-key"] for line in page("/").all("tr") if "data-key" in line.attributes] == ["mail"]
        assert headings(page("/"))[-1] == "What waits 7"


def test_jobs_of_no_known_queue_are_counted(tmp_path: Path) -> None:
    """A sidecar that joins late knows no queue of what waits: no job would wait then."""
    with local_sluice(tmp_path / "unknown.db", now=CLOCK) as server:
        ended = run("shop.mail", 100, "completed", queue="mail")[2:]  # neither its dispatch nor its start is known
        waiting = job_event("queued", NOW - 60, externalId="waits", name="shop.mail", createdAt=at(NOW - 60))
        ingest(server.client(), *ended, waiting)
        page = page_of(server)
        assert headings(page("/"))[-1] == "What waits 1"
        assert "No job waits" not in page("/").text
        assert "More jobs wait in queues that are not known" in page("/").text
        assert row(page("/queues"), "mail")[1:3] == ["0", "none"]


def test_more_tasks_that_run_are_not_left_out_silently(tmp_path: Path) -> None:
    """The ten tasks that are shown would be all."""
    with local_sluice(tmp_path / "running.db", now=CLOCK) as server:
        started = [run(f"task {n}", NOW - 30 - n, "completed")[:2] for n in range(11)]
        ingest(server.client(), *(event for events in started for event in events))
        page = page_of(server)
        assert "What runs 11" in headings(page("/"))
        assert "there are more" in page("/").text


def test_rates_are_those_of_the_time_that_is_known(tmp_path: Path) -> None:
    """A server that runs for five minutes would show a twelfth of what happens."""
    with local_sluice(tmp_path / "young.db", now=CLOCK) as server:
        jobs = [event for n in range(300) for event in run("shop.mail", NOW - 300 + n * 0.9, "completed")]
        heartbeats = [worker_event("heartbeat", NOW - 300 + second, "celery@w") for second in (0, 299)]
        ingest(server.client(), *jobs, *heartbeats)
        page = page_of(server)
        for path, key, column in (("/tasks", "shop.mail", 1), ("/queues", "mail", 4), ("/workers", "celery@w", 3)):
            assert float(row(page(path), key)[column]) == pytest.approx(60, abs=1), path


def test_jobs_of_a_worker_before_its_restart_are_lost(tmp_path: Path) -> None:
    """A worker that is killed for its memory is back in seconds: that it has lost its jobs would never be seen."""
    clock = Clock()
    clock.seconds = 300
    agent = {"metadata": {"agent": "0.1.0"}, "pid": 1}
    with local_sluice(tmp_path / "s.db", now=clock) as server:
        starts = [worker_event("online", seconds, **agent) for seconds in (0, 200)]
        jobs = [
            job_event("active", begin, externalId=name, workerId="celery@w", startedAt=at(begin))
            for name, begin in (("before", 100), ("after", 210))
        ]
        ingest(server.client(), *starts, *jobs, worker_event("heartbeat", 299, **agent))
        client = server.client(HTML, path="")
        worker = parse_html(client.get("/worker?id=celery@w").text).one("main")
        assert "The worker was started again after 1 of these jobs began. It is probably lost" in worker.text
        (link,) = [link["href"] for link in worker.all("a") if link.text == "probably lost"]
        listed = parse_html(client.get(link).text).one("main")
        assert [line.one("code").text for line in listed.one("tbody").all("tr")] == ["before"]
        now = parse_html(client.get("/").text).one("main")
        assert "1 job is active on a worker that is gone, or was started again since." in now.text


def test_no_column_is_empty_on_a_new_server(page: Page, tmp_path: Path) -> None:
    """In its first minutes each list would have a column without a mark in it, which looks as if something failed."""
    clock = Clock()
    clock.seconds = 200
    with local_sluice(tmp_path / "s.db", now=clock) as server:
        ingest(server.client(), *run("shop.mail", 100, "failed", error="ValueError: x"))
        client = server.client(HTML, path="")
        for path in ("/tasks", "/queues", "/errors"):
            assert "Trend" not in parse_html(client.get(path).text).one("thead").text, path
    assert "Trend" in page("/tasks").one("thead").text
    assert "Trend" in page("/queues").one("thead").text
