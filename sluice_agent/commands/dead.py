"""``sluice-agent dead``: list, show and retry the events that an endpoint refused."""

from __future__ import annotations

import json

import click

from sluice_agent.commands.common import UserError, find_journal
from sluice_agent.errors import JournalUnavailableError
from sluice_agent.settings import Settings
from sluice_agent.transport.journal import dead_letters
from sluice_agent.transport.journal.dead_letters import Letter, letters_in


@click.group()
def dead() -> None:
    """List, show and retry the events that an endpoint refused.

    A letter holds the events of one refusal, with the endpoint's answer. If the answer does not name the refused events
    of a batch, the letter holds the whole batch. Letters take at most 16 MB: beyond that the oldest are removed.
    """


@dead.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object per line.")
def list_letters(as_json: bool) -> None:
    """List the letters, oldest first: id, time, destination, number of events, first line of the answer."""
    for letter in letters_in(find_journal(Settings())):
        answer = next(iter(letter.answer.splitlines()), "")
        timestamp = letter.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        if as_json:
            row = {"id": letter.id, "at": timestamp, "destination": letter.destination, "events": len(letter.events)}
            click.echo(json.dumps({**row, "answer": answer}))
        else:
            click.echo(f"{letter.id}  {timestamp}  {letter.destination:<6}  {len(letter.events):>5}  {answer[:200]}")


@dead.command()
@click.argument("letter_id", metavar="ID")
def show(letter_id: str) -> None:
    """Show a letter as JSON: the whole answer, and the events."""
    click.echo(json.dumps(_find(letter_id, letters_in(find_journal(Settings()))).to_dict(), indent=2))


@dead.command()
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "retry_all", is_flag=True, help="All letters.")
def retry(letter_ids: tuple[str, ...], retry_all: bool) -> None:
    """Put the events of letters back into the journal, to be shipped again, and remove the letters.

    They go only to the destination that refused them. In `sluice-agent status` they stay counted as rejected and are
    captured once more, so the figures add up: captured grows by the retried events. If the journal has no room for a
    letter, that letter and the ones after it are kept, and the exit code is 1.
    """
    if bool(letter_ids) == retry_all:
        raise UserError("name the letters to retry, or --all: `sluice-agent dead list` shows their ids")
    settings = Settings()
    directory = find_journal(settings)
    letters = letters_in(directory)
    selected = letters if retry_all else [_find(letter_id, letters) for letter_id in letter_ids]
    retried, reason = [], ""
    for letter in selected:
        try:
            if dead_letters.retry(directory, letter, settings.journal_max_bytes):
                retried.append(letter)
        except JournalUnavailableError as error:
            reason = str(error)
            break
    events = sum(len(letter.events) for letter in retried)
    click.echo(f"{len(retried)} letters, {events} events: back in the journal")
    if reason:
        raise click.ClickException(f"{reason}, and so are those after it: retry them when more events are delivered")


def _find(letter_id: str, letters: list[Letter]) -> Letter:
    for letter in letters:
        if letter.id == letter_id:
            return letter
    raise UserError(f"there is no letter {letter_id}: `sluice-agent dead list` shows the existing ones")
