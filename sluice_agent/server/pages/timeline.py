"""The timeline of a job: what it did when, to scale, with a lane for each run.

Pure functions. Times are microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sluice_agent.server.pages.formats import duration
from sluice_agent.server.record.history import History
from sluice_agent.server.record.summary import Summary

MOST_LANES = 24
"""Runs that are drawn: the first, and the last ones."""

MOST_SKEWS = 3
"""Pairs of times that disagree that are named: those of the first runs."""

_KINDS = ("scheduled", "queued", "active", "retrying")
_MICROSECOND = 1_000  # nanoseconds
_FOLDED_FROM = 60_000_000  # microseconds: a shorter wait is drawn to scale whatever its share
_FOLDED_SHARE = 3  # a wait that is longer than a third of the whole is folded
_FOLD_WIDTH = 14.0  # percent of the plot
_MOST_FOLDS = 4  # so that room is left for what is drawn to scale
_TEXT_WIDTH = 14.0  # percent on each side of a fold's middle in which its text is
_NARROWEST = 0.4  # percent: a run of a millisecond is to be seen
_TICKS = 5  # at most
_STEPS = tuple(
    unit * count
    for unit, counts in (
        (1_000, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1_000_000, (1, 2, 5, 10, 15, 30)),
        (60_000_000, (1, 2, 5, 10, 15, 30)),
        (3_600_000_000, (1, 2, 3, 6, 12)),
        (86_400_000_000, (count * 10**power for power in range(7) for count in (1, 2, 5))),
    )
    for count in counts
)


class Span(NamedTuple):
    """A part of a run: what the job did (scheduled, queued, active, retrying), from when to when."""

    kind: str
    start: int
    end: int

    @property
    def milliseconds(self) -> float:
        """Its length."""
        return (self.end - self.start) / 1_000


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of an attempt, with the wait before it and the wait for a retry after it. `state` is the one in
    which it ended, or that it is in."""

    attempt: int
    is_redelivered: bool
    worker: str | None
    state: str
    at: int
    spans: Sequence[Span]

    def milliseconds(self, kind: str) -> float | None:
        """Return how long it was in a state; None if that is not known."""
        lengths = [span.milliseconds for span in self.spans if span.kind == kind]
        return sum(lengths) if lengths else None


class Skew(NamedTuple):
    """Two reported times of which the second is before the first, as clocks disagree."""

    first: str
    second: str
    milliseconds: float


class Band(NamedTuple):
    """A span as it is drawn: in percent of the plot's width."""

    kind: str
    x: float
    width: float
    milliseconds: float


class Lane(NamedTuple):
    """A run as it is drawn, with the place of its end, None while it goes on."""

    run: Run
    bands: Sequence[Band]
    end: float | None


class Fold(NamedTuple):
    """An idle time that is not drawn to scale: where, and how long it is."""

    x: float
    width: float
    milliseconds: float


class Tick(NamedTuple):
    """A mark of the axis: where, and the time since the beginning."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that is drawn. `hidden` counts the runs that have no lane, `hidden_skews` the skews that are not named."""

    lanes: Sequence[Lane]
    hidden: int
    folds: Sequence[Fold]
    ticks: Sequence[Tick]
    skews: Sequence[Skew]
    hidden_skews: int
    start: int
    end: int
    is_open: bool

    @property
    def kinds(self) -> list[str]:
        """The kinds of bands that are drawn, in the order in which a job goes through them."""
        drawn = {band.kind for lane in self.lanes for band in lane.bands}
        return [kind for kind in _KINDS if kind in drawn]

    @property
    def milliseconds(self) -> float:
        """The length of the whole."""
        return (self.end - self.start) / 1_000


def timeline_of(histories: Sequence[History], summary: Summary, now: int) -> Timeline:
    """Return the timeline of a job at the moment `now`. If `histories` are not those of all runs, the last of them are
    drawn."""
    is_first, is_last = histories[0].runs == 1, histories[-1].runs == summary.history.runs
    others = summary.history.runs - len(histories)
    if others:
        histories = histories[-MOST_LANES:]
    moment = now if is_last else histories[-1].entry.at // _MICROSECOND
    runs = [_run(history, _next_start(histories, index, moment), moment) for index, history in enumerate(histories)]
    spans = [span for run in runs for span in run.spans]
    start = min([summary.created_at if is_first else runs[0].at, *(span.start for span in spans)])
    end = max([start, histories[-1].entry.at // _MICROSECOND, *(span.end for span in spans)])
    is_open = is_last and not summary.is_final
    scale = _Scale(start, end, spans)
    shown = runs if len(runs) <= MOST_LANES else [runs[0], *runs[1 - MOST_LANES :]]
    last = runs[-1]
    lanes = [_lane(run, scale, is_open=is_open and run is last) for run in shown]
    published = summary.facts.dispatched if is_first else None  # a history's own begins no later than its first run
    skews = [skew for index, history in enumerate(histories) for skew in _skews(history, None if index else published)]
    return Timeline(
        lanes,
        summary.history.runs - len(shown),
        scale.folds,
        scale.ticks(),
        skews[:MOST_SKEWS],
        max(0, len(skews) - MOST_SKEWS),
        start,
        end,
        is_open,
    )


def _next_start(histories: Sequence[History], index: int, now: int) -> int:
    """Return when the run after one begins; for the last, now."""
    if index + 1 == len(histories):
        return now
    run, entry = histories[index + 1].run, histories[index + 1].entry
    return (run.started if run.started is not None else entry.at) // _MICROSECOND


def _run(history: History, next_start: int, now: int) -> Run:
    run, entry = history.run, history.entry
    at = entry.at // _MICROSECOND
    end = at if history.completed is None else history.completed // _MICROSECOND
    is_waiting, is_active = entry.state in ("queued", "scheduled"), entry.state in ("active", "unknown")
    waited_until = run.started // _MICROSECOND if run.started is not None else (now if is_waiting else end)
    spans: list[Span] = []
    if run.queued is not None or (is_waiting and run.started is None):
        queued = at if run.queued is None else run.queued // _MICROSECOND
        ready = queued if run.ready is None else min(max(queued, run.ready // _MICROSECOND), waited_until)
        spans += [Span("scheduled", queued, ready), Span("queued", ready, waited_until)]
    if run.started is not None:
        spans.append(Span("active", waited_until, max(waited_until, next_start if is_active else end)))
    if entry.state == "retrying":
        spans.append(Span("retrying", end, max(end, next_start)))
    known = [span for span in spans if span.end > span.start or (span.kind == "active" and span.end == span.start)]
    return Run(entry.attempt, entry.is_redelivered, run.worker, entry.state, end if history.completed else at, known)


def _skews(history: History, published: int | None) -> Iterator[Skew]:
    run, completed = history.run, history.completed
    times = [
        ("publication", run.queued if published is None else published),
        ("start", run.started),
        ("end", completed),
    ]
    known = [(name, time) for name, time in times if time is not None]
    for (first, before), (second, after) in pairwise(known):
        if after // _MICROSECOND < before // _MICROSECOND:
            yield Skew(first, second, (before - after) / 1_000_000)


class _Scale:
    """From moments to percent of the width: linear, but for idle times that are folded."""

    def __init__(self, start: int, end: int, spans: Sequence[Span]) -> None:
        self._edges: list[tuple[int, float]] = []
        self.folds: list[Fold] = []
        idle = _folded(start, end, spans)
        drawn = max(1, end - start - sum(after - before for before, after in idle))
        room = 100 - _FOLD_WIDTH * len(idle)
        x, moment = 0.0, start
        for before, after in idle:
            self._edges.append((moment, x))
            x += (before - moment) / drawn * room
            self._edges.append((before, x))
            self.folds.append(Fold(x, _FOLD_WIDTH, (after - before) / 1_000))
            x, moment = x + _FOLD_WIDTH, after
        self._edges += [(moment, x), (max(end, moment + 1), 100.0)]
        self._idle = idle
        self._drawn = drawn
        self._start = start
        self._end = end

    def x(self, moment: int) -> float:
        """Return the place of a moment."""
        for (before, x_before), (after, x_after) in pairwise(self._edges):
            if moment <= after:
                return x_before + (moment - before) / max(1, after - before) * (x_after - x_before)
        return 100.0

    def ticks(self) -> list[Tick]:
        """Return marks at round times since the beginning, and after a fold since its end, as many as are easily read.

        None is where the text of a fold is.
        """
        step = next((step for step in _STEPS if self._drawn / step < _TICKS), _STEPS[-1])
        ends = [before for before, _ in self._idle] + [self._end]
        starts = [self._start] + [after for _, after in self._idle]
        places = [
            (self.x(moment), moment - start, start == self._start)
            for start, end in zip(starts, ends, strict=True)
            for moment in range(start, end + 1, step)
        ]
        texts = [fold.x + fold.width / 2 for fold in self.folds]
        return [
            Tick(round(x, 3), _since(distance, is_first=is_first))
            for x, distance, is_first in places
            if all(abs(x - text) > _TEXT_WIDTH for text in texts)
        ]


def _since(microseconds: int, *, is_first: bool) -> str:
    text = duration(microseconds / 1_000).replace(".00 ", " ").replace(".0 ", " ") if microseconds else "0"
    return text if is_first else f"+{text}"


def _folded(start: int, end: int, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Return the times in which nothing ran and nothing changed that are long beside the others, in their order."""
    edges = sorted({start, end, *(moment for span in spans for moment in (span.start, span.end))})
    stops = {span.start: 0 for span in spans}  # of the runs that begin at a moment, when the last one ends
    for span in spans:
        if span.kind == "active":
            stops[span.start] = max(stops[span.start], span.end)
    idle: list[tuple[int, int]] = []
    busy_until = start
    for before, after in pairwise(edges):
        busy_until = max(busy_until, stops.get(before, start))
        if busy_until <= before and after - before >= _FOLDED_FROM:
            idle.append((before, after))
    folded: list[tuple[int, int]] = []
    whole = end - start
    for before, after in sorted(idle, key=lambda pair: pair[0] - pair[1])[:_MOST_FOLDS]:
        if (after - before) * _FOLDED_SHARE <= whole or after - before == end - start:
            break
        folded.append((before, after))
        whole -= after - before
    return sorted(folded)


def _lane(run: Run, scale: _Scale, *, is_open: bool) -> Lane:
    bands = []
    for span in run.spans:
        x = scale.x(span.start)
        width = max(_NARROWEST, scale.x(span.end) - x)
        bands.append(Band(span.kind, round(min(x, 100 - width), 3), round(width, 3), span.milliseconds))
    return Lane(run, bands, None if is_open else round(scale.x(run.at), 3))
