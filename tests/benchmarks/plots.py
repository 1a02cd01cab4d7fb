"""Plots of the page: horizontal bars with their noise, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_COLOURS = ("#2563eb", "#f59e0b")
_BAR_INCHES = 0.42


class Bar(NamedTuple):
    """A figure with its noise; `series` is an index of the plot's series."""

    name: str
    value: float
    noise: float = 0.0
    series: int = 0


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars in groups of equal names."""

    name: str
    """That of its file."""
    title: str
    unit: str
    bars: Sequence[Bar]
    series: Sequence[str] = ("",)

    def write(self, path: Path) -> None:
        """Write the picture. Equal figures make equal bytes."""
        import matplotlib as mpl

        mpl.use("svg")
        mpl.rcParams.update({"svg.hashsalt": self.name, "font.size": 9, "svg.fonttype": "none"})
        from matplotlib import pyplot

        names = list(dict.fromkeys(bar.name for bar in self.bars))
        figure, axes = pyplot.subplots(figsize=(8, 1 + _BAR_INCHES * len(names) * len(self.series)))
        height = 0.8 / len(self.series)
        for number, label in enumerate(self.series):
            bars = [bar for bar in self.bars if bar.series == number]
            places = [names.index(bar.name) + (number - (len(self.series) - 1) / 2) * height for bar in bars]
            axes.barh(
                places,
                [bar.value for bar in bars],
                height * 0.9,
                xerr=[bar.noise for bar in bars],
                label=label,
                color=_COLOURS[number % len(_COLOURS)],
                ecolor="#475569",
                capsize=2,
            )
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(self.unit)
        axes.set_title(self.title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        if len(self.series) > 1:
            axes.legend(frameon=False)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)
        lines = [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
