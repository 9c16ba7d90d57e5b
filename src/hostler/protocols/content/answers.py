"""In which form an answer goes out: what the client takes, in what the request came, what fits."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from hostler.core import Code, HostlerError
from hostler.protocols.content.forms import BINARY_TYPE, Form
from hostler.protocols.content.media import media_ranges

__all__ = ["CONTENT_TYPES", "answer_form", "answer_forms"]

CONTENT_TYPES: Final = {
    Form.V2_JSON: "application/json",
    Form.V2_BINARY: BINARY_TYPE,
    Form.INSTANCES: "application/json",
    Form.COLUMNS: "application/json",
    Form.ROWS: "application/json",
    Form.CSV: "text/csv",
    Form.JSON_LINES: "application/jsonlines",
    Form.NPY: "application/x-npy",
    Form.RAW: "application/octet-stream",
}
"""The media type that an answer has. A V2_BINARY one adds its json-header-size."""

_JSON: Final = frozenset({Form.V2_JSON, Form.INSTANCES, Form.COLUMNS, Form.ROWS})
_ALIASES: Final = {
    "application/x-jsonlines": Form.JSON_LINES,
    "application/jsonl": Form.JSON_LINES,
    "application/x-ndjson": Form.JSON_LINES,
    "application/csv": Form.CSV,
    "text/json": Form.ROWS,
    "binary/octet-stream": Form.RAW,
}


@lru_cache(maxsize=512)
def answer_forms(form: Form, accept: str) -> tuple[Form, ...]:
    """The forms to answer a request of `form` in, best first; `accept` "" is anything.

    Of what the client likes equally the request's own comes first, then JSON. JSON answers keep
    the request's shape: V2 for V2, `predictions` for `instances` and pictures, `outputs` for
    `inputs`, an array for rows and for all other types.
    Raises: UNSUPPORTED_ENCODING (details: status 406) where nothing of it can be written.
    """
    choices = _choices(form)
    found: dict[Form, None] = {}
    refused = {name for name, weight in media_ranges(accept) if weight == 0}
    for wanted, weight in media_ranges(accept):
        if weight > 0:
            for choice in choices:
                if CONTENT_TYPES[choice] not in refused and _fits(choice, wanted):
                    found[choice] = None
    if not found:
        listed = ", ".join(dict.fromkeys(CONTENT_TYPES[choice] for choice in choices))
        raise HostlerError(
            Code.UNSUPPORTED_ENCODING,
            f"Accept is '{accept[:128]}', but this model answers in {listed}",
            details={"status": 406},
        )
    return tuple(found)


def answer_form(form: Form, accept: str) -> Form:
    """The first of `answer_forms`: V2_JSON or V2_BINARY means that `protocols.oip` writes it."""
    return answer_forms(form, accept)[0]


def _choices(form: Form) -> tuple[Form, ...]:
    if form is Form.IMAGE:
        form = Form.INSTANCES
    json = form if form in _JSON else Form.V2_JSON if form is Form.V2_BINARY else Form.ROWS
    others = (Form.CSV, Form.JSON_LINES, Form.NPY, Form.RAW)
    return tuple(dict.fromkeys((form, json, *others)))


def _fits(choice: Form, wanted: str) -> bool:
    own = CONTENT_TYPES[choice]
    if wanted in ("*/*", own):
        return True
    if wanted.endswith("/*"):
        return own.startswith(wanted[:-1])
    alias = _ALIASES.get(wanted)
    return alias is not None and CONTENT_TYPES[alias] == own
