"""docs/outcomes.md."""

from __future__ import annotations

from tests.integration.outcomes.document import PAGE, page


def test_the_page_is_made_from_the_rows() -> None:
    """A user who reads what will be told must not read what was told a year ago. `make outcomes` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == page()
