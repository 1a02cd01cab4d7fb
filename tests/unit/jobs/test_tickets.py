"""The tickets by which workers start attempts."""

from __future__ import annotations

from sluice_agent.jobs.runs.tickets import add_ticket, is_valid, new_ticket


def test_each_ticket_of_an_attempt_is_valid_and_no_other() -> None:
    """A run whose message was published twice would wait for the later one, or anybody could start it."""
    tickets = [new_ticket() for _ in range(3)]
    hashes = None
    for ticket in tickets:
        hashes = add_ticket(hashes, ticket)
    assert all(is_valid(hashes, ticket) for ticket in tickets)
    for wrong in (new_ticket(), "", tickets[0][:-1], "\ud800"):
        assert not is_valid(hashes, wrong)
        assert not is_valid(None, wrong)


def test_tickets_are_stored_as_hashes_and_do_not_pile_up() -> None:
    """Who reads the database could start runs; a row would grow with each claim."""
    tickets = [new_ticket() for _ in range(20)]
    hashes = None
    for ticket in tickets:
        hashes = add_ticket(hashes, ticket)
        assert ticket.encode() not in hashes
    assert hashes is not None
    assert len(hashes) == 8 * 32
    assert [is_valid(hashes, ticket) for ticket in tickets] == [False] * 12 + [True] * 8
