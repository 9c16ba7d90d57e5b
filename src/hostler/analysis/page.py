"""A profile as one HTML page: words, two plots and the table, nothing from elsewhere. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from hostler.analysis.report import COLUMNS, Profile, rows_of, settings_text, snippet, summary
from hostler.analysis.results import Result

__all__ = ["html_page"]

_WIDTH, _HEIGHT = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 20, 16, 52
_COLOURS: Final = 8

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #d5dae0; --soft:
#57606a; --mark: #fff3c4; --c0: #0060a8; --c1: #b54a00; --c2: #00795a; --c3: #a1307d; --c4: #7a6200;
--c5: #4a4fc4; --c6: #b3261e; --c7: #2f7d8a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171a; --faint: #353b42;
--soft: #a3acb5; --mark: #3d3613; --c0: #62b0f0; --c1: #f2914d; --c2: #4fc9a0; --c3: #e58ac9; --c4:
#d9be4d; --c5: #a3a7ff; --c6: #ff8a80; --c7: #7fcbd8; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin:
2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { width: 100%; height: auto; max-width: 720px; display: block; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.axis, .grid { stroke: var(--faint); } .limit { stroke: var(--soft); stroke-dasharray: 4 4; }
.line { fill: none; stroke-width: 2; } .ring { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric:
tabular-nums; font-size: 13px; } th, td { padding: .25rem .6rem; text-align: right; white-space:
nowrap; border-bottom: 1px solid var(--faint); } td:last-child, th:last-child { text-align: left;
white-space: normal; } tr.mark td { background: var(--mark); }
pre { background: color-mix(in srgb, var(--faint) 40%, transparent); padding: .8rem; overflow-x:
auto; } ul.key { list-style: none; padding: 0; columns: 2; } .key svg { display: inline-block;
width: 28px; height: 10px; margin-right: .5rem; }
"""


@dataclass(frozen=True, slots=True)
class _Axis:
    """A scale of one plot: values to pixels, and where its marks are."""

    title: str
    place: Callable[[float], float]
    marks: Sequence[tuple[float, str]]


def html_page(profile: Profile) -> str:
    """The whole page; text from outside is escaped."""
    model = escape(profile.spec.label)
    name = f"p{profile.ask.percentile:g}"
    colours = "".join(
        f".k{i} {{ stroke: var(--c{i}); }} .f{i} {{ fill: var(--c{i}); }}\n"
        for i in range(_COLOURS)
    )
    sentences = "".join(f"<p>{escape(line)}</p>" for line in summary(profile))
    count = sum(result.count for result in profile.results)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Profile of {model}</title>
<style>{_STYLE}{colours}</style>
</head>
<body>
<h1>Profile of {model}</h1>
{sentences}
<h2>For config.pbtxt</h2>
<pre>{escape(snippet(profile))}</pre>
<h2>Throughput and latency ({name})</h2>
{_latency_plot(profile)}
{_key(profile)}
<h2>Throughput and callers</h2>
{_callers_plot(profile)}
<p>Bars are 95% intervals.</p>
<h2>All points</h2>
<div class="scroll">{_table(profile)}</div>
<p>{count:,} requests of {profile.facts.request_rows} rows each, within {profile.took_s:.0f} s, on
{profile.facts.cores} cores, asked in process: what HTTP or gRPC take comes on top. Percentiles are
exact (nearest rank); "-" stands where too few requests were measured to know one.</p>
</body>
</html>
"""


def _measured(profile: Profile) -> list[Result]:
    return [result for result in profile.results if not result.error]


def _lines(profile: Profile) -> dict[int, list[Result]]:
    """The points of each choice by callers, under the number of its colour."""
    numbers = {choice: i for i, choice in enumerate(dict.fromkeys(
        result.choice for result in _measured(profile)))}  # fmt: skip
    lines: dict[int, list[Result]] = {number: [] for number in numbers.values()}
    for result in sorted(_measured(profile), key=lambda r: r.concurrency):
        lines[numbers[result.choice]].append(result)
    return lines


def _latency_plot(profile: Profile) -> str:
    q = profile.ask.percentile
    latencies = [_latency(result, q) * 1e3 for result in _measured(profile)]
    limit_s = profile.ask.limit_s
    spread = [*latencies, *([limit_s * 1e3] if limit_s else [])]
    x = _log_axis(f"p{q:g} latency, ms", spread, base=10.0)
    y = _throughput_axis(profile)
    extra = ""
    if limit_s:
        at = x.place(limit_s * 1e3)
        extra = (
            f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"/><text x="{at + 4:.1f}" y="{_TOP + 12}">limit</text>'
        )
    return _plot(profile, x, y, lambda r: _latency(r, q) * 1e3, extra)


def _callers_plot(profile: Profile) -> str:
    x = _log_axis("callers", [result.concurrency for result in _measured(profile)], base=2.0)
    y = _throughput_axis(profile)
    bars = []
    for number, results in _lines(profile).items():
        for result in results:
            at = x.place(result.concurrency)
            low = y.place(max(0.0, result.throughput - result.margin))
            high = y.place(result.throughput + result.margin)
            bars.append(
                f'<line class="k{number % _COLOURS}" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" '
                f'y2="{high:.1f}"/>'
            )
    return _plot(profile, x, y, lambda r: float(r.concurrency), "".join(bars))


def _latency(result: Result, q: float) -> float:
    """The percentile, or the longest where there are too few requests to know it."""
    return result.latency_s(q) or result.latencies_s[-1]


def _plot(
    profile: Profile, x: _Axis, y: _Axis, value: Callable[[Result], float], extra: str
) -> str:
    parts = [_frame(x, y), extra]
    for number, results in _lines(profile).items():
        places = [(x.place(value(r)), y.place(r.throughput)) for r in results]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(
            f'<polyline class="line k{number % _COLOURS}" points="{path}"{_dash(number)}/>'
        )
        for result, (a, b) in zip(results, places, strict=True):
            title = escape(_told(profile, result))
            parts.append(
                f'<circle class="f{number % _COLOURS}" cx="{a:.1f}" cy="{b:.1f}" r="4">'
                f"<title>{title}</title></circle>"
            )
            if result is profile.suggested:
                parts.append(f'<circle class="ring" cx="{a:.1f}" cy="{b:.1f}" r="8"/>')
    title = escape(f"{y.title} against {x.title}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        + "".join(parts)
        + "</svg>"
    )


def _told(profile: Profile, result: Result) -> str:
    q = profile.ask.percentile
    return (
        f"{settings_text(profile.facts, result.choice)}, {result.concurrency} callers: "
        f"{result.throughput:,.0f} inferences/s, p{q:g} {_latency(result, q) * 1e3:.3g} ms"
    )


def _dash(number: int) -> str:
    return "" if number < _COLOURS else ' stroke-dasharray="6 3"'


def _frame(x: _Axis, y: _Axis) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>',
        f'<text x="{(_LEFT + right) / 2:.0f}" y="{_HEIGHT - 10}" text-anchor="middle">'
        f"{escape(x.title)}</text>",
        f'<text transform="translate(14 {(_TOP + bottom) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.title)}</text>',
    ]
    for value, label in x.marks:
        at = x.place(value)
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>')
    for value, label in y.marks:
        at = y.place(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
        )
    return "".join(parts)


def _log_axis(title: str, values: Sequence[float], *, base: float) -> _Axis:
    low = max(min(values, default=1.0), 1e-6)
    high = max(max(values, default=1.0), low)
    first, last = math.log(low), math.log(high)
    pad = max((last - first) * 0.05, 0.1)
    first, last = first - pad, last + pad

    def place(value: float) -> float:
        share = (math.log(max(value, 1e-6)) - first) / (last - first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    powers = range(math.floor(first / math.log(base)), math.ceil(last / math.log(base)) + 1)
    steps = (1, 2, 5) if base == 10.0 else (1,)
    marks = [base**power * step for power in powers for step in steps]
    shown = [(mark, f"{mark:g}") for mark in marks if first <= math.log(mark) <= last]
    return _Axis(title, place, shown)


def _throughput_axis(profile: Profile) -> _Axis:
    tops = [result.throughput + result.margin for result in _measured(profile)]
    most = max((top for top in tops if math.isfinite(top)), default=1.0) or 1.0
    step = 10.0 ** math.floor(math.log10(most))
    step = next(s for s in (step / 5, step / 2, step, step * 2) if most / s <= 6)
    ceiling = math.ceil(most / step) * step

    def place(value: float) -> float:
        return _HEIGHT - _BOTTOM - min(value, ceiling) / ceiling * (_HEIGHT - _TOP - _BOTTOM)

    marks = [(step * i, f"{step * i:,.6g}") for i in range(round(ceiling / step) + 1)]
    return _Axis("inferences/s", place, marks)


def _key(profile: Profile) -> str:
    items = []
    for number, results in _lines(profile).items():
        line = f'<line class="line k{number % _COLOURS}" x1="0" x2="28" y1="5" y2="5"'
        text = escape(settings_text(profile.facts, results[0].choice))
        items.append(f'<li><svg viewBox="0 0 28 10">{line}{_dash(number)}/></svg>{text}</li>')
    return f'<ul class="key">{"".join(items)}</ul>'


def _table(profile: Profile) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in COLUMNS)
    body = []
    for result, row in zip(profile.results, rows_of(profile), strict=True):
        mark = ' class="mark"' if result is profile.suggested else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        body.append(f"<tr{mark}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
