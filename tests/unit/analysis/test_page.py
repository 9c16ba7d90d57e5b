import re
from xml.etree import ElementTree

import pytest
from fakes.profiles import measured, profile

from hostler.analysis import Ask, Choice, Result, html_page

RESULTS = [
    measured(concurrency=1, rate=90.0, latency_s=0.01),
    measured(concurrency=8, rate=400.0, latency_s=0.02),
    measured(Choice(instances=2, threads=1), 1, 80.0, 0.011),
    measured(Choice(instances=2, threads=1), 8, 600.0, 0.013),
    Result(Choice(instances=4), 1, error="<no> memory & more"),
]


def drawings(page):
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]


def test_the_page_needs_nothing_from_elsewhere():
    page = html_page(profile(RESULTS, Ask("m", limit_s=0.02)))
    assert not re.search(r"(src|href)=|https?:|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page


def test_every_point_is_drawn_within_the_plot():
    page = html_page(profile(RESULTS, Ask("m", limit_s=0.02)))
    plots = [svg for svg in drawings(page) if svg.get("role") == "img"]
    assert len(plots) == 2
    for plot in plots:
        points = [c for c in plot.iter("circle") if c.get("class", "").startswith("f")]
        assert len(points) == 4
        for point in points:
            assert 78 <= float(point.get("cx")) <= 700
            assert 16 <= float(point.get("cy")) <= 328
        assert len(list(plot.iter("polyline"))) == 2
        assert [c.get("class") for c in plot.iter("circle")].count("ring") == 1
    titles = [title.text for title in plots[0].iter("title")]
    assert any("2 instances, 1 thread, 8 callers: 600 inferences/s, p95 13 ms" in t for t in titles)


def test_more_throughput_is_higher_and_more_latency_further_right():
    page = html_page(profile(RESULTS))
    plot = next(svg for svg in drawings(page) if svg.get("role") == "img")
    points = [c for c in plot.iter("circle") if c.get("class") == "f0"]
    (slow, busy) = [(float(c.get("cx")), float(c.get("cy"))) for c in points]
    assert busy[0] > slow[0]
    assert busy[1] < slow[1]


def test_text_from_outside_is_escaped():
    page = html_page(profile(RESULTS))
    assert "&lt;no&gt; memory &amp; more" in page
    assert "<no>" not in page


@pytest.mark.parametrize("results", [[RESULTS[-1]], RESULTS[:1], [measured(rate=1e-3)]])
def test_few_points_make_a_page_too(results):
    assert len(drawings(html_page(profile(results)))) >= 2
