"""The colours of the pages, from the tokens in the style sheet."""

from __future__ import annotations

import re
from itertools import product

import pytest

from sluice_agent.server.pages.assets import ASSETS

_TOKEN = re.compile(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")
TOKENS = {name: colours for name, *colours in _TOKEN.findall(ASSETS["sluice.css"].content.decode())}
LIGHT, DARK = 0, 1
PLOTTED = ("bars", "failed", "accent", "retrying")
STATES = ("queued", "scheduled", "active", "completed", "failed", "retrying", "cancelled", "unknown")
SURFACES = ("page", "side", "raised", "hover")
TEXTS = [
    *product(("text", "muted", "accent", *STATES), (*SURFACES, "accent-tint")),
    *product(("text", "muted", "failed"), ("failed-tint",)),
    *product(("text", "muted", "retrying"), ("retrying-tint",)),
    *product(("text", "muted", "completed"), ("completed-tint",)),
    ("on-accent", "accent"),
]
"""Pairs of a text and what is behind it."""


def luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2.2 defines it."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_measure_is_that_of_wcag() -> None:
    """All other tests of colours would be worthless."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("mode", [LIGHT, DARK])
def test_texts_can_be_read(mode: int) -> None:
    """Who sees less well, or sits in the sun, could not read the page."""
    contrasts = {(text, ground): contrast(TOKENS[text][mode], TOKENS[ground][mode]) for text, ground in TEXTS}
    assert {pair: round(value, 2) for pair, value in contrasts.items() if value < 4.5} == {}


@pytest.mark.parametrize("mode", [LIGHT, DARK])
def test_controls_can_be_seen(mode: int) -> None:
    """Who sees less well would not find where to write."""
    contrasts = {ground: contrast(TOKENS["edge"][mode], TOKENS[ground][mode]) for ground in SURFACES}
    assert {ground: round(value, 2) for ground, value in contrasts.items() if value < 3} == {}


@pytest.mark.parametrize("mode", [LIGHT, DARK])
def test_plots_can_be_seen(mode: int) -> None:
    """Who sees less well would take a plot for an empty box."""
    contrasts = {colour: contrast(TOKENS[colour][mode], TOKENS["page"][mode]) for colour in PLOTTED}
    assert {colour: round(value, 2) for colour, value in contrasts.items() if value < 3} == {}
