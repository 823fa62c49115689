# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts as SVG markup: pure functions from numbers to text.

Written by hand, because a plotting library's SVG is larger, fixed in size and has no dark mode. Positions along a chart
are percentages, so that charts stretch with the page while their text keeps its size. Colours are classes, which the
page's style sheet sets for light, dark and print. All input is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from markupsafe import Markup

PARTS = ("data", "h2d", "enqueue", "wait", "rest")
STALL = "stall"
QUANTILES = ("p50", "p90", "p99", "max")
_RATIO_TICKS = (
    (1.0,),
    (2.0, 0.5, 5.0, 0.2, 10.0, 0.1, 20.0, 0.05, 50.0, 0.02, 100.0, 0.01),
    (1.5, 0.7, 3.0, 0.3),
    (1.2, 0.8, 1.1, 0.9),
    (1.05, 0.95, 1.02, 0.98),
)
_MARKS = {
    "circle": Markup('<circle r="5"/>'),
    "square": Markup('<rect x="-4.5" y="-4.5" width="9" height="9"/>'),
    "triangle": Markup('<path d="M0-5.5L5.5 4.5H-5.5Z"/>'),
    "diamond": Markup('<path d="M0-7L8 0L0 7L-8 0Z"/>'),
    "small": Markup('<circle r="3"/>'),
}
_SCATTER_WIDTH, _SCATTER_HEIGHT, _CHARACTER = 820, 320, 6.4


class Scale(Protocol):
    """The position of a value in percent of the chart's extent; values outside lie on its edge."""

    def at(self, value: float) -> float: ...


@dataclass(frozen=True)
class LinearScale:
    low: float
    high: float

    def at(self, value: float) -> float:
        return min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low)))


@dataclass(frozen=True)
class LogScale:
    low: float
    high: float

    def at(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return min(100.0, max(0.0, 100 * share))


@dataclass(frozen=True)
class Span:
    """A ratio and its interval, if there is one."""

    ratio: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Dot:
    """One point of a scatter plot; `tone` and `mark` as in `span_row`."""

    x: float
    y: Span
    mark: str
    tone: str
    label: str


@dataclass(frozen=True)
class Tick:
    """One block in run order: the number of its arm, its round, and its mean relative to the others of its cell."""

    arm: int
    round: int
    relative: float
    label: str


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. `class_` becomes class, other underscores become hyphens; everything but Markup is escaped."""
    text = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), text, Markup("").join(children))


def percent(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"


def ratio_scale(spans: Iterable[Span], margin: float) -> LogScale:
    """Contains 1, the margin and every ratio. Intervals extend it to at most its length again on each side."""
    spans = list(spans)
    ratios = [span.ratio for span in spans]
    low, high = min([*ratios, 1 / (1 + margin)]), max([*ratios, 1 + margin])
    reach = max(high / low, 1.2)
    low = max(low / reach, min([low, *(span.low for span in spans if span.low is not None and span.low > 0)]))
    high = min(high * reach, max([high, *(span.high for span in spans if span.high is not None)]))
    pad = (high / low) ** 0.05
    return LogScale(low / pad, high * pad)


def ratio_ticks(scale: LogScale, apart: float = 9.0) -> list[float]:
    """Round ratios within the scale, at least `apart` percent from each other; 1 comes first."""
    chosen: list[float] = []
    for group in _RATIO_TICKS:
        for value in group:
            inside = scale.low <= value <= scale.high
            if inside and all(abs(scale.at(value) - scale.at(other)) >= apart for other in chosen):
                chosen.append(value)
    return sorted(chosen)


def time_ticks(scale: LogScale, apart: float = 9.0) -> list[float]:
    """Round times (1, 2, 5 times a power of ten) within the scale."""
    first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    chosen: list[float] = []
    for factor in (1, 2, 5):
        for value in (factor * 10.0**power for power in range(first, last + 1)):
            inside = scale.low <= value <= scale.high
            if inside and all(abs(scale.at(value) - scale.at(other)) >= apart for other in chosen):
                chosen.append(value)
    return sorted(chosen)


def mark(shape: str, x: float, y: str, tone: str) -> Markup:
    """A symbol that keeps its size: circle, square, triangle, diamond or small, in one of the page's tones."""
    return tag("svg", _MARKS[shape], x=percent(x), y=y, class_=f"mark {tone}")


def axis_row(scale: LogScale) -> Markup:
    """The tick labels above the rows of one scale."""
    texts = [tag("text", f"{value:g}x", x=percent(scale.at(value)), y="70%") for value in ratio_ticks(scale)]
    return tag("svg", *texts, class_="axis", aria_hidden="true")


def _ground(scale: LogScale, margin: float) -> list[Markup]:
    """The margin's band, the grid and the line of no difference, which continue from row to row."""
    left, right = scale.at(1 / (1 + margin)), scale.at(1 + margin)
    band = tag("rect", x=percent(left), width=percent(right - left), y="0", height="100%", class_="band")
    lines = [
        tag("line", x1=x, x2=x, y1="0", y2="100%", class_="one" if value == 1 else "grid")
        for value in ratio_ticks(scale)
        for x in [percent(scale.at(value))]
    ]
    return [band, *lines]


def span_row(span: Span | None, scale: LogScale, margin: float, shape: str, tone: str, title: str) -> Markup:
    """One row of a forest plot: the ratio's mark on its interval; tones are faster, slower, equal and unknown."""
    parts = _ground(scale, margin)
    if span is not None:
        if span.low is not None and span.high is not None:
            low, high = scale.at(span.low), scale.at(span.high)
            parts.append(tag("line", x1=percent(low), x2=percent(high), y1="50%", y2="50%", class_=f"whisker {tone}"))
            if span.low < scale.low:
                parts.append(tag("svg", Markup('<path d="M0 0L7-4V4Z"/>'), x="0", y="50%", class_=f"mark end {tone}"))
            if span.high > scale.high:
                arrow = Markup('<path d="M0 0L-7-4V4Z"/>')
                parts.append(tag("svg", arrow, x="100%", y="50%", class_=f"mark end {tone}"))
        parts.append(mark(shape, scale.at(span.ratio), "50%", tone))
    return tag("svg", tag("title", title), *parts, class_="row", role="img")


def quantile_row(ratios: Mapping[str, float], scale: LogScale, margin: float, title: str) -> Markup:
    """Ratios of quantiles on one line: a small open mark for p50, a full diamond for the slowest step."""
    parts = _ground(scale, margin)
    places = [scale.at(ratios[name]) for name in QUANTILES if name in ratios]
    if places:
        low, high = percent(min(places)), percent(max(places))
        parts.append(tag("line", x1=low, x2=high, y1="50%", y2="50%", class_="whisker quantile"))
    for name in QUANTILES:
        if name in ratios:
            parts.append(mark(quantile_mark(name), scale.at(ratios[name]), "50%", f"quantile {name}"))
    return tag("svg", tag("title", title), *parts, class_="row", role="img")


def quantile_mark(name: str) -> str:
    """The symbol of one of QUANTILES."""
    return {"p50": "circle", "p90": "small", "p99": "triangle", "max": "diamond"}[name]


def key_mark(shape: str, tone: str) -> Markup:
    """A symbol for a legend."""
    return tag("svg", mark(shape, 50, "50%", tone), class_="key", aria_hidden="true")


def parts_row(parts: Mapping[str, float], total: float, title: str) -> Markup:
    """A stacked bar of `parts` (ms, as in PARTS) on a track of `total` ms; below it the stalls, which they contain."""
    bars, left = [], 0.0
    for name in PARTS:
        width = 100 * parts.get(name, 0.0) / total if total > 0 else 0.0
        if width > 0:
            bars.append(tag("rect", x=percent(left), width=percent(width), y="3", height="11", class_=f"part {name}"))
            left += width
    if parts.get(STALL, 0.0) > 0 and total > 0:
        width = min(100.0, 100 * parts[STALL] / total)
        bars.append(tag("rect", x="0", width=percent(width), y="15", height="4", class_=f"part {STALL}"))
    return tag("svg", tag("title", title), *bars, class_="bar", role="img")


def share_row(shares: Sequence[tuple[str, float]], title: str) -> Markup:
    """A bar of shares (class, 0 to 1) of a whole."""
    bars, left = [], 0.0
    for name, share in shares:
        width = min(100 - left, max(0.0, 100 * share))
        bars.append(tag("rect", x=percent(left), width=percent(width), y="4", height="14", class_=f"share {name}"))
        left += width
    return tag("svg", tag("title", title), *bars, class_="bar track", role="img")


def scatter(
    dots: Sequence[Dot],
    x: Scale,
    y: LogScale,
    x_ticks: Sequence[tuple[float, str]],
    margin: float,
    threshold: float | None,
    title: str,
    description: str,
) -> Markup:
    """Ratio against a quantity, with margin band and intervals; `threshold` is a vertical line."""
    left, right = 100 - y.at(1 + margin), 100 - y.at(1 / (1 + margin))
    parts = [tag("rect", x="0", width="100%", y=percent(left), height=percent(right - left), class_="band")]
    for value in ratio_ticks(y):
        place = percent(100 - y.at(value))
        parts.append(tag("line", x1="0", x2="100%", y1=place, y2=place, class_="one" if value == 1 else "grid"))
        parts.append(tag("text", f"{value:g}x", x="0", y=place, dx="-8", dy=".35em", class_="left"))
    for value, text in x_ticks:
        place = percent(x.at(value))
        parts.append(tag("line", x1=place, x2=place, y1="0", y2="100%", class_="grid"))
        parts.append(tag("text", text, x=place, y="100%", dy="1.5em", class_="below"))
    if threshold is not None:
        place = percent(x.at(threshold))
        parts.append(tag("line", x1=place, x2=place, y1="0", y2="100%", class_="threshold"))
    for dot in dots:
        across, up = x.at(dot.x), percent(100 - y.at(dot.y.ratio))
        drawn = [tag("title", dot.label)]
        if dot.y.low is not None and dot.y.high is not None:
            ends = [percent(100 - y.at(dot.y.low)), percent(100 - y.at(dot.y.high))]
            place = percent(across)
            drawn.append(tag("line", x1=place, x2=place, y1=ends[0], y2=ends[1], class_=f"whisker thin {dot.tone}"))
        parts.append(tag("g", *drawn, mark(dot.mark, across, up, dot.tone)))
    parts += _dot_labels(dots, x, y)
    head = [tag("title", title), tag("desc", description)]
    return tag("svg", *head, *parts, class_="scatter", role="img")


def _dot_labels(dots: Sequence[Dot], x: Scale, y: LogScale) -> list[Markup]:
    """Names next to the dots, the farthest from 1 first, if they fit on a wide page without touching."""
    taken = []
    for dot in dots:
        across, down = x.at(dot.x) * _SCATTER_WIDTH / 100, (100 - y.at(dot.y.ratio)) * _SCATTER_HEIGHT / 100
        taken.append((across - 7, down - 7, across + 7, down + 7))
    labels = []
    for dot in sorted(dots, key=lambda dot: -abs(math.log(dot.y.ratio))):
        across, down = x.at(dot.x) * _SCATTER_WIDTH / 100, (100 - y.at(dot.y.ratio)) * _SCATTER_HEIGHT / 100
        width = len(dot.label) * _CHARACTER
        for shift, anchor in ((11.0, "start"), (-11.0 - width, "end")):
            box = (across + shift, down - 8, across + shift + width, down + 8)
            clear = all(box[2] < o[0] or o[2] < box[0] or box[3] < o[1] or o[3] < box[1] for o in taken)
            if clear and box[0] >= 0 and box[2] <= _SCATTER_WIDTH:
                taken.append(box)
                labels.append(
                    tag(
                        "text",
                        dot.label,
                        x=percent(x.at(dot.x)),
                        y=percent(100 - y.at(dot.y.ratio)),
                        dx="11" if anchor == "start" else "-11",
                        dy=".35em",
                        class_=f"name {anchor}",
                    )
                )
                break
    return labels


def run_strip(ticks: Sequence[Tick], title: str, description: str) -> Markup:
    """Every block in run order: above, its time relative to others of its cell; below, a band in its arm's colour."""
    spread = max((abs(math.log(tick.relative)) for tick in ticks), default=0.0)
    reach = math.exp(min(max(spread, math.log(1.1)), math.log(4)) * 1.08)
    y, step = LogScale(1 / reach, reach), 100 / max(len(ticks), 1)
    top = 78.0

    def height(relative: float) -> str:
        return percent(top * (1 - y.at(relative) / 100))

    parts = []
    for value in ratio_ticks(y, apart=14):
        parts.append(
            tag("line", x1="0", x2="100%", y1=height(value), y2=height(value), class_="one" if value == 1 else "grid")
        )
        parts.append(tag("text", f"{value:g}", x="0", y=height(value), dx="-8", dy=".35em", class_="left"))
    place = 0.0
    last = 0
    for (arm, number), group in groupby(ticks, key=lambda tick: (tick.arm, tick.round)):
        width = step * len(list(group))
        if number != last:
            parts.append(tag("line", x1=percent(place), x2=percent(place), y1="0", y2="100%", class_="round"))
            parts.append(tag("text", str(number), x=percent(place), y="100%", dx="2", dy="1.35em", class_="start"))
            last = number
        label = tag("title", f"round {number}")
        parts.append(
            tag("rect", label, x=percent(place), width=percent(width), y="84%", height="16%", class_=f"arm arm{arm}")
        )
        place += width
    for index, tick in enumerate(ticks):
        across = percent(step * (index + 0.5))
        symbol = tag("circle", tag("title", tick.label), cx=across, cy=height(tick.relative), r="3")
        parts.append(tag("g", symbol, class_=f"arm arm{tick.arm}"))
    return tag("svg", tag("title", title), tag("desc", description), *parts, class_="strip", role="img")
