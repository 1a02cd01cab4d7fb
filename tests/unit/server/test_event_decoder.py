"""The common way to parse a batch, by few calls for all its events, beside the way that validates each."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.event_decoder import event_decoder
from sluice_agent.server.validation import event_schema, parse_batch, parse_each, parse_valid
from tests.benchmarks.server_ingest import Batches
from tests.support.examples import examples
from tests.unit.server.test_validation import BAD, ENVELOPE, SUBJECTS, TYPES, event

LONG_TEXTS = ["x" * size for limit in (255, 512, 1024, 10_000, 50_000) for size in (limit, limit + 1)]
ODD_TEXTS = ["", "a", "é", "\0", "\x7f", "\u2028", '"\\/\b\f\n\r\t', "😀" * 255, "é" * 256, *LONG_TEXTS]
WRITTEN = r"""
null true false True 0 1 2 -1 -0 0.0 -0.0 1.0 0.5 1e0 1E+2 1e-1 1e400 -1e400 0.1e-999 1e999 5e-324 01 1. .5 +1 - 1e
1.7976931348623157e308 1.7976931348623159e308 NaN nan Infinity -Infinity
2147483647 2147483648 9007199254740993 9223372036854775807 9223372036854775808 18446744073709551615 18446744073709551616
-9223372036854775808 -9223372036854775809 12345678901234567890123
[] {} [null] [1,] [,1] {1:2} {"a":1,} {"a":1,"a":2} {"a":1,"b":2,"a":3} {"externalId":"a"}
"\u0000" "\ud800" "\udc00" "\ud83d\ude00" "\ud83d" "\uD83Dx" "\ud83d\u0041" "\u00E9" "\x" "\u12g4" "\/" "open 'a'
"queued" "done" "celery" "rq" "online" "heartbeat" "default" "1" "1.0" "job_progress" "queue:x" "jobs"
"2026-02-28T23:59:59Z" "2026-02-29T00:00:00Z" "2024-02-29T00:00:00.123456789Z" "0000-01-01T00:00:00Z" "2026-01-01"
"2026-01-01T00:00:00Z\n" "2026-01-01t00:00:00z" "2026-01-01T00:00:00+00:00" "2026-01-01T00:00:00.1234567890Z"
"2026-01-01T24:00:00Z" "2026-13-01T00:00:00Z" "٢٠٢٦-01-01T00:00:00Z"
"550E8400-E29B-41D4-A716-446655440000" "550e8400e29b41d4a716446655440000" "550e8400-e29b-41d4-a716-446655440000\n"
"""
SHORT_TOKENS = [*WRITTEN.split(), '"a\nb"', '"\t"', '"\0"', '"\x1f"', '"\x7f"']
TOKENS = [
    *SHORT_TOKENS,
    *map(json.dumps, ODD_TEXTS),
    "9" * 4300,
    "9" * 4301,
    "0." + "1" * 800,
    *("[" * depth + "]" * depth for depth in (7, 8, 9, 10, 190, 201, 260, 400, 3000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (8, 9, 260)),
]
"""Values as they may be written in a body, valid and not."""

FRAGMENTS = [
    *(token.encode() for token in SHORT_TOKENS),
    *(b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x0b", b"\xa0", b"\0"),
    *(b" ", b"\n", b"\t\r", b",", b":", b'"', b"\\", b"{", b"}", b"[", b"]", b"//", b"1", b"e", b"."),
    *(b'"job":', b'"worker":{},', b'"name":"a",', b'"n\\u0061me":"b",', b'"extensions":{},', b'"events":[],'),
]
EVENT_FIELDS = event_schema()["properties"]
FIELDS = {subject: [*EVENT_FIELDS[subject]["properties"], "external_id"] for subject in SUBJECTS}
FIELDS[""] = [*EVENT_FIELDS, "more"]
VALID: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("createdAt", "startedAt", "completedAt", "timestamp"), st.just("2026-02-27T10:15:00.5Z")),
    **dict.fromkeys(("attempt", "activeJobs", "consumers", "depth"), st.integers(1, 2**31 - 1)),
    **dict.fromkeys(("maxRetries", "pid", "concurrency"), st.integers(0, 2**70)),
    **dict.fromkeys(("externalId", "name", "queue", "workerId", "hostname"), st.text(min_size=1, max_size=20)),
    **dict.fromkeys(("error", "stacktrace"), st.text(max_size=20)),
    "state": st.sampled_from(["queued", "active", "online", "idle"]),
    "previousState": st.sampled_from(["queued", "active"]),
    "progress": st.one_of(st.floats(0, 1), st.sampled_from([0, 1])),
    "queues": st.lists(st.text(max_size=5), max_size=3),
}
OBJECTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=5,
    ),
    max_size=4,
)
MARK = re.compile(r'"@(\d+)@"')


@st.composite
def near_events(draw: st.DrawFn) -> dict[str, Any]:
    """Return an event that is valid, or nearly: with some more fields, and values of which some stand for a token."""
    subject = draw(st.sampled_from(list(SUBJECTS)))
    built = event(subject)
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(FIELDS[subject][:-1]))
        built[subject][name] = draw(OBJECTS if name in ("extensions", "metadata") else VALID[name])
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        place = draw(st.sampled_from(["", subject]))
        target = built[place] if place and isinstance(built.get(place), dict) else built
        token = f"@{draw(st.integers(0, len(TOKENS) - 1))}@"
        extensions = target.get("extensions")
        if isinstance(extensions, dict) and draw(st.booleans()):
            extensions[draw(st.sampled_from(["argsWhole", "message", "deep"]))] = token
        else:
            target[draw(st.sampled_from(FIELDS[place]))] = token
    return dict(draw(st.permutations(list(built.items()))))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Return a body of events that are valid or nearly, written in any way, and perhaps broken in some places."""
    batch = {"events": draw(st.lists(near_events(), max_size=3))}
    indent = draw(st.sampled_from([None, None, 1, "\t"]))
    text = MARK.sub(
        lambda match: TOKENS[int(match[1])], json.dumps(batch, indent=indent, ensure_ascii=draw(st.booleans()))
    )
    body = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2]))):
        start = draw(st.integers(0, len(body)))
        end = start + draw(st.sampled_from([0, 0, 1, 1, 2, 5, 30]))
        body = body[:start] + draw(st.sampled_from([b"", *FRAGMENTS])) + body[end:]
    encoding = draw(st.sampled_from(["utf-8"] * 20 + ["utf-8-sig", "utf-16", "utf-32-be"]))
    return body if encoding == "utf-8" else body.decode("utf-8", "replace").encode(encoding)


@settings(max_examples=examples(400), deadline=None)
@given(bodies())
@example(json.dumps({"events": [event(progress=1)]}).encode())
@example(json.dumps({"events": [{**event(), "timestamp": "2026-01-01T00:00:00Z\n"}]}).encode())
@example(json.dumps({"events": [event(extensions={"deep": "TEXT"})]}).replace('"TEXT"', "[" * 400 + "]" * 400).encode())
@example(b'{"events": [], "events": []}')
def test_both_ways_to_parse_a_batch_agree(body: bytes) -> None:
    """An event that only the quick way accepts is stored as no other server would; one that it changes is lost."""
    try:
        quick = parse_valid(body)
    except ValueError:
        return
    each = parse_each(body)
    assert each.faults == []
    assert repr(quick) == repr(each.events)  # with the types of numbers, and the order in which fields are stored


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_the_quick_way_accepts_no_event_that_is_not_valid(bad: Any) -> None:
    """A limit that the quick way does not know would hold for no client."""
    with pytest.raises(ValueError, match=r"."):
        parse_valid(json.dumps({"events": [event(), bad]}).encode())


def test_what_an_agent_sends_is_parsed_the_quick_way() -> None:
    """A limit of the contract that the quick way reads too narrowly would double the cost of each event."""
    full = event(
        queue="q" * 255,
        previousState="active",
        workerId="w" * 512,
        attempt=2**31 - 1,
        maxRetries=2**63,
        progress=0.5,
        error="e" * 10_000,
        stacktrace="s" * 50_000,
        createdAt="2024-02-29T00:00:00.123456Z",
        extensions={"message": {"headers": {"stamps": {"group": [["a", 1], {"b": [None, True, 0.5]}]}}}},
    )
    worker = event("worker", pid=1, concurrency=8, activeJobs=0, queues=["a"], metadata={"dropped": {"full": 1}})
    types = [{**ENVELOPE, "type": TYPES["job"].replace("_", mark, 1), "job": SUBJECTS["job"]} for mark in "_.:"]
    events = [full, worker, event("queue", consumers=2), *types]
    assert len(parse_valid(json.dumps({"events": events}).encode())) == len(events)
    assert parse_valid(Batches(4).body(0, 0))


def test_a_batch_of_too_many_events_is_refused_with_the_reason() -> None:
    """Millions of events in one body would keep all other clients waiting."""
    queue = json.dumps(event("queue"))
    with pytest.raises(ValueError, match=r"40000"):
        parse_valid(f'{{"events": [{",".join([queue] * 40_001)}]}}'.encode())
    with pytest.raises(RefusedError) as refusal:
        parse_batch(f'{{"events": [{",".join([queue] * 40_001)}]}}'.encode())
    assert refusal.value.status == 413


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string", "pattern": "^a$"},
        {"type": "string", "enum": ["a"], "maxLength": 1},
        {"type": "integer", "exclusiveMinimum": 0},
        {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        {"type": "object", "additionalProperties": True, "minProperties": 1},
        {"type": "boolean"},
    ],
)
def test_a_limit_that_the_decoder_does_not_know_is_an_error(field: dict[str, Any]) -> None:
    """A limit that is added to the contract would otherwise hold only for the events that are validated one by one."""
    schema = {"type": "object", "additionalProperties": False, "properties": {"a": field}, "required": ["a"]}
    with pytest.raises(ValueError, match="schema"):
        event_decoder(schema, 10, ())
