"""docs/outcomes.md is up to date."""

from __future__ import annotations

from tests.integration.outcomes.document import PAGE, page


def test_the_page_is_made_from_the_rows() -> None:
    """A user must not read last year's behaviour. `make outcomes` writes the page again."""
    assert PAGE.read_text(encoding="utf-8") == page()
