"""What is wrong, in sentences: when there is one, how bad it is, and where its link leads."""

from __future__ import annotations

from sluice_agent.server.pages.findings import (
    GROWTH_WITHIN,
    LONG_WAIT,
    SILENCE,
    Finding,
    Limits,
    QueueState,
    Severity,
    of_problems,
    of_queues,
    of_server,
    of_tasks,
    of_workers,
    sorted_findings,
)
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.queries.tasks import Ends
from sluice_agent.server.queries.workers import SilentWorker

MINUTE = 60_000_000
NOW = 1_000 * MINUTE


def sentence(finding: Finding) -> str:
    return f"{finding.subject} {finding.text}"


def test_a_failing_task_has_its_share_and_trend() -> None:
    """A user could not see whether it gets better, and which task to look at first."""
    ends = {"mail": Ends([40, 40], [1, 19]), "bill": Ends([10, 5], [10, 0]), "fine": Ends([1_000], [1])}
    bill, mail = of_tasks(ends)
    assert sentence(mail) == "mail failed in the last hour: 20 of 100 jobs (20 %), rising."
    assert sentence(bill) == "bill failed in the last hour: 10 of 25 jobs (40 %), falling."
    assert (mail.severity, mail.link.path) == (Severity.BAD, "/jobs")
    assert mail.link.parameters == {"state": "failed", "name": "mail", "sortBy": "completedAt"}


def test_tasks_that_failed_once_are_one_line() -> None:
    """Of four hundred tasks the few that fail all the time would be lost among single failures."""
    ends = {f"task {n}": Ends([1], [1]) for n in range(30)} | {"mail": Ends([1], [9])}
    mail, others = of_tasks(ends)
    assert mail.subject == "mail"
    assert sentence(others) == "And 30 more tasks failed in the last hour: 30 jobs."
    assert others.severity is Severity.WARNING
    (only,) = of_tasks({"mail": Ends([5], [1])})
    assert sentence(only) == "1 task failed in the last hour: 1 job."


def test_the_task_that_always_fails_comes_first() -> None:
    """A task of which nothing completes would be below one that fails now and then."""
    ends = {"often": Ends([900], [100]), "always": Ends([0], [3]), "seldom": Ends([0], [2])}
    assert [finding.subject for finding in of_tasks(ends)] == ["always", "often", "And 1 more task"]


def test_no_trend_is_made_up_from_half_an_hour() -> None:
    """A task that began to run half an hour ago would be called rising."""
    (finding,) = of_tasks({"mail": Ends([0, 10], [0, 5])})
    assert finding.text.endswith("(33 %).")


def test_jobs_with_a_problem_are_counted() -> None:
    """A hung job would be found by chance only."""
    slow, lost = of_problems(
        {JobProblem.SLOW: (1, True), JobProblem.LOST: (10_000, False), JobProblem.OVERDUE: (0, True)}
    )
    assert sentence(slow) == "1 job runs for much longer than others of the same task."
    assert sentence(lost) == "10,000+ jobs are active on a worker that is gone, or was started again since."
    assert lost.link.parameters == {"problem": "lost"}


def test_workers_that_are_gone_are_named() -> None:
    """Of a worker that was killed nothing else is heard."""
    one = SilentWorker("celery@one", "one", NOW - 4 * MINUTE, 3)
    (finding,) = of_workers([one], NOW)
    assert sentence(finding) == "celery@one stopped reporting 4 min ago without ending; 3 jobs were active then."
    assert finding.link.parameters == {"id": "celery@one"}
    several = [SilentWorker(f"celery@{n}", "host", NOW - MINUTE, 0) for n in range(5)]
    (finding,) = of_workers(several, NOW)
    assert sentence(finding) == (
        "5 workers stopped reporting without ending, the last one 1 min ago: celery@0, celery@1, celery@2 and 2 more."
    )
    assert not list(of_workers([], NOW))


def test_a_queue_that_waits_and_grows_is_worse_than_one_that_waits() -> None:
    """A queue that fills while nobody works would be in the middle of a list."""
    queues = [
        QueueState("fine", 12, 10, MINUTE),
        QueueState("late", None, None, LONG_WAIT),
        QueueState("growing", 40, 20, None),
        QueueState("both", 300, 20, 2 * LONG_WAIT),
        QueueState("empty again", 0, 90, None),
    ]
    both, late, growing = of_queues(queues)
    assert sentence(both) == "Queue both: the oldest job waits for 10 min, and it grew from 20 to 300 in 15 min."
    assert sentence(late) == "Queue late: the oldest job waits for 5 min."
    assert sentence(growing) == "Queue growing: it grew from 20 to 40 in 15 min."
    assert [both.severity, late.severity, growing.severity] == [Severity.BAD, Severity.WARNING, Severity.WARNING]
    assert GROWTH_WITHIN == 15 * MINUTE


def test_many_queues_are_the_worst_and_a_number() -> None:
    """All else that is wrong would be off the screen."""
    *worst, others = of_queues(QueueState(f"q{n}", None, None, (10 + n) * MINUTE) for n in range(20))
    assert [finding.link.parameters["name"] for finding in worst] == ["q19", "q18", "q17", "q16"]
    assert sentence(others) == "16 more queues grow, or have a job that waits for long."


def test_the_server_names_its_own_trouble() -> None:
    """A page that nothing reaches any more looks as if all were well."""
    nothing = Limits(10, 100, None)
    assert not list(of_server(nothing, NOW - SILENCE + 1, NOW))
    silent, limit, kept = of_server(Limits(100, 100, 5 * 60 * MINUTE), NOW - SILENCE, NOW)
    assert sentence(silent) == "The last event is 5 min old. sluice-agent doctor, beside a worker, shows why."
    assert sentence(limit) == "Today's events of 100 are used: 100. Further ones are refused until midnight UTC."
    assert sentence(kept) == "The jobs of 5 h fill the database. sluice-agent serve --max-size gives it more room."
    (near,) = of_server(Limits(80, 100, None), NOW, NOW)
    assert (near.severity, limit.severity) == (Severity.WARNING, Severity.BAD)


def test_the_worst_come_first() -> None:
    """What hurts most would be below what can wait."""
    warning = of_tasks({"a": Ends([97], [3])})
    bad = of_problems({JobProblem.LOST: (1, True)})
    assert [finding.severity for finding in sorted_findings(warning, bad)] == [Severity.BAD, Severity.WARNING]
