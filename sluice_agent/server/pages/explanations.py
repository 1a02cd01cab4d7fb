"""What the problems of jobs under way probably are."""

from __future__ import annotations

from collections.abc import Mapping

from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.queries.problems import LATE_AFTER, SLOW_FACTOR

EXPLANATIONS: Mapping[JobProblem, str] = {
    JobProblem.SLOW: (
        f"A job here is active for more than {SLOW_FACTOR} times the p99 of its task. It probably waits for something "
        "that does not answer, such as a lock or a connection without a timeout, or its worker was killed and started "
        "again under the same name. A time limit ends such jobs."
    ),
    JobProblem.LOST: (
        "A job here is active on a worker that is gone, or that was started again after it. The worker was "
        "probably killed, for example for its memory, or its machine was lost. The job runs again only if its task has "
        "acks_late."
    ),
    JobProblem.EXPIRED: (
        "A job here is still queued after its expires: no worker has taken it in time. Check that one consumes its "
        "queue. RabbitMQ has discarded the job by now, without a report; with other brokers the next worker that takes "
        "it does."
    ),
    JobProblem.OVERDUE: (
        f"The ETA of a job here passed more than {LATE_AFTER // 60_000_000} minute ago, and it has not started. "
        "The worker that held it is probably gone, or all its processes are busy."
    ),
}
"""A few sentences for each problem, to stand above the list of the jobs that have it."""
