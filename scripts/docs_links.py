"""A hook of mkdocs: links that leave docs/, for readers of the repository, are plain text on the site."""

from __future__ import annotations

import re
from typing import Any

_LEAVES_DOCS = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./[^)\s]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page without those links."""
    return _LEAVES_DOCS.sub(r"\1", markdown)
