"""``sluice-agent dead``: what an endpoint refused, to look at and to send again."""

from __future__ import annotations

import json

import click

from sluice_agent.commands.common import UserError, find_journal
from sluice_agent.errors import JournalUnavailableError
from sluice_agent.settings import Settings
from sluice_agent.transport import dead_letters as letters
from sluice_agent.transport.dead_letters import Letter


@click.group()
def dead() -> None:
    """Look at the events that an endpoint refused, and send them again.

    A letter holds what was refused at once, with the endpoint's answer. Where the answer does not say which events of a
    batch are meant, the letter holds the whole batch. Letters take 16 MB at the most: then the oldest go.
    """


@dead.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs: one object a line.")
def list_letters(as_json: bool) -> None:
    """List the letters, the oldest first: id, when, destination, number of events, the answer's first line."""
    for letter in letters.letters_in(find_journal(Settings())):
        answer = next(iter(letter.answer.splitlines()), "")
        when = letter.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        if as_json:
            row = {"id": letter.id, "at": when, "destination": letter.destination, "events": len(letter.events)}
            click.echo(json.dumps({**row, "answer": answer}))
        else:
            click.echo(f"{letter.id}  {when}  {letter.destination:<6}  {len(letter.events):>5}  {answer[:200]}")


@dead.command()
@click.argument("letter_id", metavar="ID")
def show(letter_id: str) -> None:
    """Show a letter as JSON: the whole answer, and the events."""
    click.echo(json.dumps(_found(letter_id, letters.letters_in(find_journal(Settings()))).to_dict(), indent=2))


@dead.command()
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All letters.")
def retry(letter_ids: tuple[str, ...], every: bool) -> None:
    """Put the events of letters back into the journal, for whoever ships it, and remove the letters.

    They go to the destination that refused them, and to no other. In `sluice-agent status` they stay counted as
    rejected and are captured once more, so the figures add up: captured grows by the events that are retried. Where the
    journal has no room for a letter, it is kept, with those that were to follow, and the exit code is 1.
    """
    if bool(letter_ids) == every:
        raise UserError("name the letters to retry, or --all: `sluice-agent dead list` shows their ids")
    settings = Settings()
    directory = find_journal(settings)
    known = letters.letters_in(directory)
    chosen = known if every else [_found(letter_id, known) for letter_id in letter_ids]
    back, kept = [], ""
    for letter in chosen:
        try:
            if letters.retry(directory, letter, settings.journal_max_bytes):
                back.append(letter)
        except JournalUnavailableError as error:
            kept = str(error)
            break
    events = sum(len(letter.events) for letter in back)
    click.echo(f"{len(back)} letters, {events} events: back in the journal")
    if kept:
        raise click.ClickException(f"{kept}, and those behind it: retry them when more is delivered")


def _found(letter_id: str, known: list[Letter]) -> Letter:
    for letter in known:
        if letter.id == letter_id:
            return letter
    raise UserError(f"there is no letter {letter_id}: `sluice-agent dead list` shows those that are")
