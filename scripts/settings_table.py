"""The table of settings in docs/settings.md, from settings.py: `python -m scripts.settings_table` writes it."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from dataclasses import fields
from pathlib import Path

from sluice_agent import settings as module
from sluice_agent.setting_values import Number
from sluice_agent.settings import Settings, variables

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
BEGIN, END = "<!-- settings.py -->\n", "<!-- end -->\n"


def main() -> None:
    """Write the table into the page."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(page: str) -> str:
    """Return the page with the table between its marks written anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def table() -> str:
    """Return the table: a row for each variable, with its default, its bounds and its meaning."""
    meanings = _docstrings()
    rows = ["| variable | default | bounds | meaning |", "|---|---|---|---|"]
    for variable, field in zip(variables(), fields(Settings), strict=True):
        bounds = _bounds(field.metadata["parse"])
        rows.append(f"| `{variable}` | {_default(field.default)} | {bounds} | {meanings[field.name]} |")
    return "\n".join(rows) + "\n"


def _docstrings() -> dict[str, str]:
    """Return the docstring under each field, in Markdown."""
    tree = ast.parse(inspect.getsource(module))
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == Settings.__name__]
    texts = {}
    for field, prose in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(prose, ast.Expr):
            text = ast.literal_eval(prose.value)
            texts[field.target.id] = re.sub(r"\s+", " ", text).replace("``", "`").replace("|", r"\|")
    return texts


def _default(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{int(value)}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`" if value else "empty"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _bounds(parse: object) -> str:
    if not isinstance(parse, Number):
        return ""
    return f"from {parse.lowest:,}" if parse.highest is None else f"{parse.lowest:,} to {parse.highest:,}"


if __name__ == "__main__":
    main()
