# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts as SVG markup: pure functions from numbers to text.

Three kinds: rows of a forest plot, bars, and strips of dots. Written by hand, because a plotting library's SVG is larger,
fixed in size and has no dark mode. Positions along a chart are percentages, so that charts stretch with the page while
their text keeps its size. Colours are classes, which the page's style sheet sets for light, dark and print; each row has
its label beside it, so that no colour has to be told from another. All input is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_RATIO_TICKS = (
    (1.0,),
    (2.0, 0.5, 5.0, 0.2, 10.0, 0.1, 20.0, 0.05, 50.0, 0.02, 100.0, 0.01),
    (1.5, 0.7, 3.0, 0.3),
    (1.2, 0.8, 1.1, 0.9),
    (1.05, 0.95, 1.02, 0.98),
)
_ONE_FROM_EDGE = 0.16
"""The least share of the axis on each side of 1, where its sides are named."""
_MARKS = {
    "diamond": Markup('<path d="M0-7L8 0L0 7L-8 0Z"/>'),
    "circle": Markup('<circle r="5"/>'),
    "square": Markup('<rect x="-4.5" y="-4.5" width="9" height="9"/>'),
    "dot": Markup('<circle r="2.6"/>'),
}
_LEFT_END, _RIGHT_END = Markup('<path d="M0 0L7-4V4Z"/>'), Markup('<path d="M0 0L-7-4V4Z"/>')


@dataclass(frozen=True)
class LogScale:
    """The position of a ratio in percent of the chart's width; values outside lie on its edge."""

    low: float
    high: float

    def at(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return min(100.0, max(0.0, 100 * share))


@dataclass(frozen=True)
class Span:
    """A ratio, its interval if there is one, and the ratios of single rounds."""

    ratio: float
    low: float | None = None
    high: float | None = None
    rounds: tuple[float, ...] = ()


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. `class_` becomes class, other underscores become hyphens; everything but Markup is escaped."""
    text = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), text, Markup("").join(children))


def percent(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"


def ratio_scale(spans: Iterable[Span], margin: float) -> LogScale:
    """Contains the margin, every ratio and every round, with room on both sides of 1.

    Intervals extend it to at most its length again on each side.
    """
    spans = list(spans)
    ratios = [value for span in spans for value in (span.ratio, *span.rounds)]
    low, high = min([*ratios, 1 / (1 + margin)]), max([*ratios, 1 + margin])
    reach = max(high / low, 1.2)
    low = max(low / reach, min([low, *(span.low for span in spans if span.low is not None and span.low > 0)]))
    high = min(high * reach, max([high, *(span.high for span in spans if span.high is not None)]))
    pad = (high / low) ** 0.05
    below, above = math.log(pad / low), math.log(high * pad)
    room = _ONE_FROM_EDGE / (1 - _ONE_FROM_EDGE)
    return LogScale(math.exp(-max(below, room * above)), math.exp(max(above, room * below)))


def ratio_ticks(scale: LogScale, apart: float = 9.0) -> list[float]:
    """Round ratios within the scale, at least `apart` percent from each other; 1 comes first."""
    chosen: list[float] = []
    for group in _RATIO_TICKS:
        for value in group:
            inside = scale.low <= value <= scale.high
            if inside and all(abs(scale.at(value) - scale.at(other)) >= apart for other in chosen):
                chosen.append(value)
    return sorted(chosen)


def value_ticks(longest: float) -> list[float]:
    """Round values from 0 to `longest`, at most six."""
    if longest <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(longest))
    step = next(step for step in (0.2 * power, 0.5 * power, power, 2 * power, 5 * power) if longest / step <= 5)
    return [index * step for index in range(int(longest / step + 1e-9) + 1)]


def mark(shape: str, x: float, y: str, tone: str) -> Markup:
    """A symbol that keeps its size: diamond, circle, square or dot, in one of the page's tones."""
    return tag("svg", _MARKS[shape], x=percent(x), y=y, class_=f"mark {tone}")


def key_mark(shape: str, tone: str) -> Markup:
    """A symbol for a legend."""
    return tag("svg", mark(shape, 50, "50%", tone), class_="key", aria_hidden="true")


def ratio_axis(scale: LogScale) -> Markup:
    """The axis above the rows of one scale: which side is slower, which faster, and the ticks."""
    one = percent(scale.at(1))
    sides = [
        tag("text", "◂ slower", x=one, y="30%", dx="-7", class_="side end"),
        tag("text", "|", x=one, y="30%", class_="side"),
        tag("text", "faster ▸", x=one, y="30%", dx="7", class_="side start"),
    ]
    texts = [tag("text", f"{value:g}", x=percent(scale.at(value)), y="82%") for value in ratio_ticks(scale)]
    return tag("svg", *sides, *texts, class_="axis", aria_hidden="true")


def value_axis(longest: float) -> Markup:
    """The axis above bars or strips: round values from 0."""
    texts = [
        tag("text", f"{value:g}", x=percent(100 * value / longest if longest > 0 else 0), y="75%")
        for value in value_ticks(longest)
    ]
    return tag("svg", *texts, class_="axis", aria_hidden="true")


def _ground(scale: LogScale, margin: float) -> list[Markup]:
    """The margin's band, the grid and the line of no difference, which continue from row to row."""
    left, right = scale.at(1 / (1 + margin)), scale.at(1 + margin)
    band = tag("rect", x=percent(left), width=percent(right - left), y="0", height="100%", class_="band")
    edges = [tag("line", x1=percent(x), x2=percent(x), y1="0", y2="100%", class_="edge") for x in (left, right)]
    lines = [
        tag("line", x1=x, x2=x, y1="0", y2="100%", class_="one" if value == 1 else "grid")
        for value in ratio_ticks(scale)
        for x in [percent(scale.at(value))]
    ]
    return [band, *edges, *lines]


def forest_row(span: Span | None, scale: LogScale, margin: float, shape: str, tone: str, title: str) -> Markup:
    """The ratio's mark on its interval, and below it a small dot for each round.

    Tones are faster, slower, equal and unknown. An interval that leaves the scale ends in an arrow.
    """
    parts = _ground(scale, margin)
    if span is not None:
        line = "36%" if span.rounds else "50%"
        parts += [mark("dot", scale.at(value), "76%", "round") for value in span.rounds]
        if span.low is not None and span.high is not None:
            low, high = scale.at(span.low), scale.at(span.high)
            parts.append(tag("line", x1=percent(low), x2=percent(high), y1=line, y2=line, class_=f"whisker {tone}"))
            if span.low < scale.low:
                parts.append(tag("svg", _LEFT_END, x="0", y=line, class_=f"mark end {tone}"))
            if span.high > scale.high:
                parts.append(tag("svg", _RIGHT_END, x="100%", y=line, class_=f"mark end {tone}"))
        parts.append(mark(shape, scale.at(span.ratio), line, tone))
    return tag("svg", tag("title", title), *parts, class_="row", role="img")


def bar(share: float, tone: str, title: str) -> Markup:
    """A bar over `share` (0 to 1) of its track."""
    width = percent(min(100.0, max(0.0, 100 * share)))
    filled = tag("rect", x="0", width=width, y="0", height="100%", class_=f"fill {tone}")
    whole = tag("rect", x="0", width="100%", y="0", height="100%", class_="track")
    return tag("svg", tag("title", title), whole, filled, class_="bar", role="img")


def strip(values: Sequence[float], longest: float, tone: str, title: str) -> Markup:
    """A dot for each value, on an axis from 0 to `longest`."""
    lines = [
        tag("line", x1=x, x2=x, y1="0", y2="100%", class_="grid")
        for value in value_ticks(longest)
        for x in [percent(100 * value / longest if longest > 0 else 0)]
    ]
    dots = [mark("dot", 100 * value / longest if longest > 0 else 0, "50%", tone) for value in values]
    return tag("svg", tag("title", title), *lines, *dots, class_="row", role="img")
