"""How a model's settings bear on its speed: which to try, measuring them, what to make of it."""

from hostler.analysis.ask import Ask
from hostler.analysis.choices import Choice, Facts
from hostler.analysis.measure import Analyser, Machine
from hostler.analysis.page import html_page
from hostler.analysis.report import COLUMNS, Profile, csv_text, rows_of, snippet, summary
from hostler.analysis.results import Result

__all__ = [
    "COLUMNS",
    "Analyser",
    "Ask",
    "Choice",
    "Facts",
    "Machine",
    "Profile",
    "Result",
    "csv_text",
    "html_page",
    "rows_of",
    "snippet",
    "summary",
]
