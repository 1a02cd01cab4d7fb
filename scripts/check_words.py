"""Check that the package is written in plain technical English: `python scripts/check_words.py`.

Prints each use of a word or an old name in `sluice_agent/` that has a standard term, and exits with 1 if
there is one. Words count in names, comments, docstrings and messages; old names only in code.
"""

from __future__ import annotations

import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "sluice_agent"

WORDS = re.compile(
    r"(?<![a-z])(?:told|tell(?:s|ing)?|hearsay|(?:over)?hear(?:s|d)?|say(?:s|ing)?|said|whoever|(?:no|some|every|any)body"
    r"|mend(?:s|ed|ing)?|(?:last|first|one|a|no|its|their) word|without a word|gives? way|folders?)(?![a-z])",
    re.IGNORECASE,
)
"""Words that have a standard term. Only letters adjoin a word: parts of snake_case names count."""

ALLOWED = (
    # A JSON key and subject of `doctor`, whose check gives it its name; a problem; a reason of drops
    "check_folder",
    "`folder`",
    '"folder"',
    "'folder'",
    "folder_full",
    "folder_removed",
    # AMQP's term for a part of a routing key
    "`*` is one word",
    # Sentences that are kept as they are
    "a fleet that was told one moment must not come at that moment",
    "`redelivered` says that the broker had handed it out before",
    "tells a container that was started again",
)
"""Texts that may contain such a word."""

ALLOWED_NAMES = {"transport/journal/accounting": {"folder"}}
"""Names that are interfaces, by module: a JSON key."""

OLD_MODULES = {
    "": "speaker translation ignoring",
    "signals": """
        listening watch execution verdicts publishing silence cut_off unstored told recent facts queues
        missing_verdicts
    """,
    "monitor": """
        observer jobs workers messages telling later memory view headcount inspection inspector enabling events
        connecting probe state app
    """,
    "monitor/queues": "depth brokers virtual consumers",
    "transport": "pen audience answers sendings removal eviction accounts report dead folder",
    "server": "edge faults moments walk intake body serving listing",
    "health": "health serving",
    "commands": "probing",
}
"""Modules that have a new name, by their package."""

OLD_NAMES = {
    "": """
        each one about mine told them place Sentence Told Heard
    """,
    "transport": """
        Pen Audience Choice Patience Answer Sendings hurry hurried nudge precede stands_back sign _mine _turn take_off
        is_worn lines_without_a_file put_away room_for_more is_a_page no_answer nothing EVERYBODY reach bury judge
        whole what _PATIENCE _HOLD
    """,
    "signals": """
        Watch Verdicts Execution written CARRIED run_here unsaid_progress raised_by_task note_told is_told
        harmless tell_of _tell _lives _where_it_raises what MissingVerdicts ReportedVerdicts verdict
    """,
    "monitor": """
        Observer Telling Memory WorkerView Headcount Inspection Gauge Held Turn Standing Asked Alone DeafError Later
        wind oldest_known told_before heard nesting told_waiting hearsay speaks said _strike _abandon
        _say _see_load learned took_over stand_by unasked is_willing note_taken survives spare_texts refusal _PATIENCE
        _HOLD what
    """,
    "server": "what",
    "doctor": "what",
    "model": "fitted refusing made_valid",
    "commands": "sheet place_of_journal journal_folder",
    "lifecycle/routing": "undelayed leads",
}
"""Names in code that have a new name, by the package or module in which the old meaning was."""


def main() -> int:
    """Print every finding; return the exit code."""
    findings = list(check(PACKAGE))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def check(package: Path) -> Iterator[str]:
    """Yield `file:line: word` for each word and each old name in the package."""
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).with_suffix("").as_posix()
        parent, _, name = module.rpartition("/")
        if name in OLD_MODULES.get(parent, "").split():
            yield f"{path.relative_to(package.parent)}: this module has a new name"
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                for line, word in _bad_words(token, module):
                    yield f"{path.relative_to(package.parent)}:{line}: {word}"


def _bad_words(token: tokenize.TokenInfo, module: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each finding."""
    if token.string in ALLOWED_NAMES.get(module, ()):
        return
    first_line, text = token.start[0], token.string
    for phrase in ALLOWED:
        text = text.replace(phrase, "")
    for match in WORDS.finditer(text):
        yield first_line + text.count("\n", 0, match.start()), match[0]
    if token.type == tokenize.NAME and token.string in _old_names(module):
        yield first_line, token.string


def _old_names(module: str) -> set[str]:
    return {name for scope in ("", module.partition("/")[0]) for name in OLD_NAMES.get(scope, "").split()}


if __name__ == "__main__":
    sys.exit(main())
