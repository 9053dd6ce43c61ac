"""Draws a CloudWatch dashboard as an SVG: its definition, as deployed, with measured points."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any
from xml.sax.saxutils import escape

from tools.dashboard_capture import Capture

Series = dict[int, float]
"""Values by the beginning of their period, Unix seconds."""

CELL_WIDTH, CELL_HEIGHT = 46, 27
MARGIN = 4
_PALETTE = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
_INK, _FAINT, _LINE, _PAPER, _TABLE = "#16191f", "#687078", "#d5dbdb", "#ffffff", "#f2f3f3"
_FONT = 'font-family="Helvetica, Arial, sans-serif"'
_GREEN, _RED, _GREY = "#1d8102", "#d13212", "#879596"
_STATES = {"OK": _GREEN, "ALARM": _RED, "INSUFFICIENT_DATA": _GREY}
_SEARCH = re.compile(r"SEARCH\('\{(?P<ns>[^,]+),(?P<dimension>\w+)\} MetricName=\"(?P<name>\w+)\"', '(?P<stat>\w+)'")
_STATISTICS: Mapping[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max, "Average": fmean}


@dataclass(frozen=True)
class _Curve:
    label: str
    colour: str
    series: Series


class Evaluator:
    """Answers what a definition asks of the metrics.

    Parameters
    ----------
    capture
        What was measured.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        moments = [moment for points in capture.points.values() for moment, _ in points]
        self.beginning, self.end = min(moments), max(moments)

    def statistic(self, key: Sequence[str], statistic: str, period_seconds: int) -> Series:
        """Return a metric's series."""
        namespace, name, *dimensions = key
        buckets: dict[int, list[float]] = {}
        for moment, value in self._capture.points.get((namespace, name, tuple(dimensions)), []):
            buckets.setdefault(moment - moment % period_seconds, []).append(value)
        return {moment: _STATISTICS[statistic](values) for moment, values in buckets.items()}

    def curves(self, rows: Sequence[Sequence[Any]], period_seconds: int) -> list[tuple[str, Series]]:
        """Return label and series of each visible row of a widget's ``metrics``."""
        named: dict[str, Series] = {}
        plain: list[tuple[Mapping[str, Any], Sequence[str], Series | None]] = []
        for row in rows:
            options: Mapping[str, Any] = row[-1] if isinstance(row[-1], dict) else {}
            key: Sequence[str] = [part for part in row if isinstance(part, str)]
            series = None
            if key:
                series = self.statistic(key, options.get("stat", "Average"), options.get("period", period_seconds))
                named[options.get("id", "")] = series
            plain.append((options, key, series))
        visible: list[tuple[str, Series]] = []
        for options, key, series in plain:
            if not options.get("visible", True):
                continue
            if series is not None:
                visible.append((options.get("label") or key[1], series))
            elif search := _SEARCH.match(options["expression"]):
                visible += self._found(search, period_seconds)
            else:
                visible.append((options["label"], self.expression(options["expression"], named, period_seconds)))
        return visible

    def _found(self, search: re.Match[str], period_seconds: int) -> Iterator[tuple[str, Series]]:
        for namespace, name, dimensions in sorted(self._capture.points):
            if (namespace, name, dimensions[0]) == (search["ns"], search["name"], search["dimension"]):
                key = [namespace, name, *dimensions]
                yield dimensions[1], self.statistic(key, search["stat"], period_seconds)

    def expression(self, text: str, named: Mapping[str, Series], period_seconds: int) -> Series:
        """Return the series of an expression over others: arithmetic, and the functions that the dashboard uses."""
        period_moments = range(self.beginning, self.end + 1, period_seconds)
        found = _evaluated(ast.parse(_without_if(text), mode="eval").body, named, period_moments)
        return found if isinstance(found, dict) else dict.fromkeys(period_moments, found)

    def alarm_state(self, properties: Mapping[str, Any]) -> str:
        """Return the state of an alarm at the end of the time measured."""
        series = self._watched(properties)
        compare = {
            "LessThanThreshold": lambda value: value < properties["Threshold"],
            "GreaterThanThreshold": lambda value: value > properties["Threshold"],
            "GreaterThanOrEqualToThreshold": lambda value: value >= properties["Threshold"],
        }[properties["ComparisonOperator"]]
        last = [series[moment] for moment in sorted(series)][-properties["EvaluationPeriods"] :]
        if not last:
            return {"breaching": "ALARM", "notBreaching": "OK"}.get(properties["TreatMissingData"], "INSUFFICIENT_DATA")
        return "ALARM" if all(map(compare, last)) else "OK"

    def _watched(self, alarm: Mapping[str, Any]) -> Series:
        dimensions = [part for item in alarm["Dimensions"] for part in (item["Name"], item["Value"])]
        return self.statistic(
            [alarm["Namespace"], alarm["MetricName"], *dimensions], alarm["Statistic"], alarm["Period"]
        )


_Value = Series | float
_OPERATORS: Mapping[type[ast.AST], Callable[[float, float], float]] = {
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
}


def _without_if(text: str) -> str:
    """Rename the function that has the name of a keyword of Python's."""
    return text.replace("IF(", "WHERE(")


def _evaluated(node: ast.expr, named: Mapping[str, Series], moments: Sequence[int]) -> _Value:
    """Return what CloudWatch would: a series, or a number where a function makes one of a series."""
    match node:
        case ast.Constant(value=float() | int() as number):
            return float(number)
        case ast.Name(id=name):
            return named[name]
        case (
            ast.BinOp(left=left, op=operation, right=right)
            | ast.Compare(left=left, ops=[operation], comparators=[right])
        ):
            return _combined(
                _OPERATORS[type(operation)],
                _evaluated(left, named, moments),
                _evaluated(right, named, moments),
            )
        case ast.Call(func=ast.Name(id=function), args=arguments):
            return _called(function, [_evaluated(argument, named, moments) for argument in arguments], moments)
    raise ValueError(f"not an expression that is drawn here: {ast.unparse(node)}")


def _called(function: str, arguments: list[_Value], moments: Sequence[int]) -> _Value:
    first = arguments[0]
    match function, first:
        case "TIME_SERIES", float() as number:
            return {} if math.isnan(number) else dict.fromkeys(moments, number)
        case "EPOCH", dict():
            return {moment: float(moment) for moment in moments}
        case "MAX", dict() as series:
            return max(series.values(), default=math.nan)
        case "WHERE", dict() as condition:
            (values,) = arguments[1:]
            return {moment: _at(values, moment) for moment, holds in condition.items() if holds}
    raise ValueError(f"not a function that is drawn here: {function}")


def _combined(operation: Callable[[float, float], float], *values: _Value) -> _Value:
    """Combine two values; of series, where both have a point."""
    series = [value for value in values if isinstance(value, dict)]
    if not series:
        return float(operation(*values))  # type: ignore[arg-type]
    moments = sorted(set.intersection(*map(set, series)))
    return {moment: float(operation(*(_at(value, moment) for value in values))) for moment in moments}


def _at(value: _Value, moment: int) -> float:
    return value[moment] if isinstance(value, dict) else value


def draw(body: Mapping[str, Any], alarms: Mapping[str, Mapping[str, Any]], capture: Capture, caption: str) -> str:
    """Draw a dashboard.

    Parameters
    ----------
    body
        Its definition: ``DashboardBody``, parsed.
    alarms
        Properties of the alarms by name.
    capture
        What was measured.
    caption
        Said below it.

    Returns
    -------
    str
        The SVG, the same for the same arguments.
    """
    evaluator = Evaluator(capture)
    widgets = body["widgets"]
    width = 24 * CELL_WIDTH
    height = max(widget["y"] + widget["height"] for widget in widgets) * CELL_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 30}" {_FONT}>',
        f"<title>{escape(caption)}</title>",
        f'<rect width="100%" height="100%" fill="{_TABLE}"/>',
    ]
    for widget in widgets:
        box = _Box(
            widget["x"] * CELL_WIDTH + MARGIN,
            widget["y"] * CELL_HEIGHT + MARGIN,
            widget["width"] * CELL_WIDTH - 2 * MARGIN,
            widget["height"] * CELL_HEIGHT - 2 * MARGIN,
        )
        parts += _widget(widget, box, evaluator, alarms, capture)
    parts += [_text(MARGIN + 6, height + 18, caption, colour=_FAINT), "</svg>", ""]
    return "\n".join(parts)


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float


def _widget(
    widget: Mapping[str, Any],
    box: _Box,
    evaluator: Evaluator,
    alarms: Mapping[str, Mapping[str, Any]],
    capture: Capture,
) -> Iterator[str]:
    properties = widget["properties"]
    if widget["type"] == "text":
        yield from _markdown(properties["markdown"], box)
        return
    yield (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="2" fill="{_PAPER}" '
        f'stroke="{_LINE}"/>'
    )
    yield _text(box.x + 10, box.y + 17, properties["title"], size=12, bold=True)
    match widget["type"], properties.get("view"):
        case "alarm", _:
            yield from _alarms([alarms[arn.partition(":alarm:")[2]] for arn in properties["alarms"]], box, evaluator)
        case "log", _:
            yield from _table(properties["query"], box, capture)
        case "metric", "singleValue":
            yield from _numbers(properties, box, evaluator)
        case "metric", "timeSeries":
            yield from _graph(properties, box, evaluator)
        case other:
            raise ValueError(f"not a widget that is drawn here: {other}")


def _markdown(markdown: str, box: _Box) -> Iterator[str]:
    if markdown.startswith("|"):
        yield from _rows(markdown, box)
        return
    heading, _, sentence = markdown.partition("\n")
    level = len(heading) - len(heading.lstrip("#"))
    yield _text(box.x + 6, box.y + 21, heading.lstrip("# "), size={1: 18}.get(level, 15), bold=True)
    yield _text(box.x + 6, box.y + 39, sentence.replace("`", ""), size=12, colour=_FAINT)


def _rows(markdown: str, box: _Box) -> Iterator[str]:
    """Draw a table of two columns."""
    lines = [line for line in markdown.splitlines() if "---" not in line]
    for number, line in enumerate(lines):
        first, second = (cell.strip().replace("`", "") for cell in line.strip("| ").split(" | "))
        y = box.y + 18 + number * (box.height - 8) / len(lines)
        yield _text(box.x + 6, y, first, bold=True)
        yield _text(box.x + 180, y, second, colour=_FAINT, bold=number == 0)


def _alarms(alarms: Sequence[Mapping[str, Any]], box: _Box, evaluator: Evaluator) -> Iterator[str]:
    columns = 2
    rows = math.ceil(len(alarms) / columns)
    width, height = (box.width - 20 - 6 * (columns - 1)) / columns, (box.height - 36 - 4 * (rows - 1)) / rows
    for number, alarm in enumerate(alarms):
        x = box.x + 10 + (number % columns) * (width + 6)
        y = box.y + 27 + (number // columns) * (height + 4)
        state = evaluator.alarm_state(alarm)
        heading = alarm["AlarmName"].partition(": ")[2]
        yield f'<rect x="{x}" y="{y:.1f}" width="{width}" height="{height:.1f}" rx="2" fill="{_STATES[state]}"/>'
        yield _text(x + 8, y + height / 2 + 4, heading, colour="#ffffff", bold=True)


def _table(query: str, box: _Box, capture: Capture) -> Iterator[str]:
    """Draw the answer to a query that lists fields of the newest log lines."""
    fields = re.search(r"fields ([^\n|]+)", query)
    limit = re.search(r"limit (\d+)", query)
    assert fields is not None and limit is not None
    names = [name.strip() for name in fields[1].split(",")]
    width = (box.width - 20) / (len(names) + 0.5)
    places = [box.x + 10 + (column + 0.5 * (column > 0)) * width for column in range(len(names))]
    rows = list(reversed(capture.runs))[: int(limit[1])]
    step = (box.height - 34) / (int(limit[1]) + 1)
    for x, name in zip(places, names, strict=True):
        yield _text(x, box.y + 26 + step * 0.7, name, colour=_FAINT, bold=True, size=9)
    for number, run in enumerate(rows, 1):
        top = box.y + 26 + number * step
        yield f'<path d="M{box.x + 10} {top:.1f}h{box.width - 20}" stroke="{_LINE}"/>'
        for x, name in zip(places, names, strict=True):
            yield _text(x, top + step * 0.72, _field(run, name), size=10)


def _field(run: Mapping[str, Any], name: str) -> str:
    value: Any = run
    if name == "@timestamp":
        return datetime.fromtimestamp(run[name], UTC).strftime("%Y-%m-%d %H:%M:%S")
    for part in name.split("."):
        value = value[part]
    return str(int(value)) if isinstance(value, bool) else str(value)


def _numbers(properties: Mapping[str, Any], box: _Box, evaluator: Evaluator) -> Iterator[str]:
    whole_range = properties.get("setPeriodToTimeRange", False)
    period_seconds = evaluator.end + 1 if whole_range else properties.get("period", 300)
    curves = evaluator.curves(properties["metrics"], period_seconds)
    step = (box.height - 28) / len(curves)
    for number, (label, series) in enumerate(curves):
        y = box.y + 28 + number * step
        value = _number(series[max(series)]) if series else "--"
        yield f'<rect x="{box.x + 10}" y="{y + 4:.1f}" width="3" height="{step - 14:.1f}" fill="{_PALETTE[number]}"/>'
        yield _text(box.x + 22, y + step / 2 - 1, value, size=22, bold=True)
        yield _text(box.x + 22, y + step / 2 + 16, label, colour=_FAINT)


def _graph(properties: Mapping[str, Any], box: _Box, evaluator: Evaluator) -> Iterator[str]:
    curves = [
        _Curve(label, _PALETTE[number % len(_PALETTE)], series)
        for number, (label, series) in enumerate(evaluator.curves(properties["metrics"], properties["period"]))
    ]
    if properties["stacked"]:
        curves = _stacked(curves)
    lines = properties.get("annotations", {}).get("horizontal", [])
    highest = max([value for curve in curves for value in curve.series.values()] + [line["value"] for line in lines])
    top, ticks = _scale(highest)
    plot = _Box(box.x + 48, box.y + 32, box.width - 62, box.height - 84)

    def at(moment: float, value: float) -> tuple[float, float]:
        share = (moment - evaluator.beginning) / max(evaluator.end - evaluator.beginning, 1)
        return plot.x + share * plot.width, plot.y + plot.height * (1 - value / top)

    unit = properties["yAxis"]["left"]["label"]
    yield _text(box.x + box.width - 10, box.y + 17, unit, size=10, colour=_FAINT, anchor="end")
    for tick in ticks:
        y = at(evaluator.beginning, tick)[1]
        yield f'<path d="M{plot.x} {y:.1f}h{plot.width}" stroke="{_LINE}"/>'
        yield _text(plot.x - 6, y + 3.5, _number(tick), size=9, colour=_FAINT, anchor="end")
    for moment in range(evaluator.beginning, evaluator.end + 1, 12 * 3600):
        x = at(moment, 0)[0]
        label = datetime.fromtimestamp(moment, UTC).strftime("%a %H:%M")
        yield _text(x, plot.y + plot.height + 13, label, size=9, colour=_FAINT, anchor="middle")
    for line in lines:
        y = at(evaluator.beginning, line["value"])[1]
        yield f'<path d="M{plot.x} {y:.1f}h{plot.width}" stroke="{line["color"]}" stroke-dasharray="5 3"/>'
        yield _text(plot.x + plot.width, y + 12, line["label"], size=9, colour=line["color"], anchor="end")
    for curve in reversed(curves):
        yield from _curve(curve, properties, at, plot)
    yield from _legend(curves, box)


def _curve(curve: _Curve, properties: Mapping[str, Any], at: Any, plot: _Box) -> Iterator[str]:
    for stretch in _stretches(sorted(curve.series), properties["period"]):
        places = [at(moment, curve.series[moment]) for moment in stretch]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        if len(places) == 1:
            yield f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="2" fill="{curve.colour}"/>'
            continue
        if properties["stacked"]:
            floor = plot.y + plot.height
            yield (
                f'<path d="M{path}L{places[-1][0]:.1f} {floor:.1f}L{places[0][0]:.1f} {floor:.1f}Z" '
                f'fill="{_lightened(curve.colour)}"/>'
            )
        yield f'<path d="M{path}" fill="none" stroke="{curve.colour}" stroke-width="1.6"/>'


def _stretches(moments: Sequence[int], period_seconds: int) -> Iterator[list[int]]:
    """Split where a period has no value: nothing is drawn through it."""
    stretch: list[int] = []
    for moment in moments:
        if stretch and moment - stretch[-1] > period_seconds:
            yield stretch
            stretch = []
        stretch.append(moment)
    if stretch:
        yield stretch


def _stacked(curves: Sequence[_Curve]) -> list[_Curve]:
    total: Series = {}
    result = []
    for curve in curves:
        total = {moment: total.get(moment, 0) + value for moment, value in curve.series.items()}
        result.append(_Curve(curve.label, curve.colour, total))
    return result


def _legend(curves: Sequence[_Curve], box: _Box) -> Iterator[str]:
    x, y = box.x + 12, box.y + box.height - 22
    for curve in curves:
        width = 20 + 5.2 * len(curve.label)
        if x + width > box.x + box.width - 6:
            x, y = box.x + 12, y + 14
        yield f'<rect x="{x:.1f}" y="{y - 7}" width="8" height="8" fill="{curve.colour}"/>'
        yield _text(x + 12, y, curve.label, size=10, colour=_FAINT)
        x += width


def _scale(highest: float) -> tuple[float, list[float]]:
    """Return the top of an axis, and where it is labelled."""
    highest = highest or 1.0
    power = 10 ** math.floor(math.log10(highest))
    top = next(step * power for step in (1, 2, 3, 5, 8, 10) if step * power >= highest * 1.0001)
    return top, [0, top / 2, top]


def _number(value: float) -> str:
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1000 if suffix == 'k' else limit):.3g}{suffix}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _lightened(colour: str) -> str:
    channels = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{255 - (255 - channel) * 2 // 5:02x}" for channel in channels)


def _text(
    x: float, y: float, text: str, *, size: int = 11, colour: str = _INK, bold: bool = False, anchor: str = "start"
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{weight}{where}>{escape(text)}</text>'
