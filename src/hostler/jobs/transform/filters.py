"""InputFilter, JoinSource and OutputFilter of CreateTransformJob, on one record. Pure.

    record -InputFilter-> what the model gets;  record + prediction -OutputFilter-> what is written

Nothing is re-written that need not be: a cell of CSV keeps its quotes, and a JSON value its text
(1e5, 1.0 and integers of any length stay as they are), because values are cut out, not decoded.
What does change: space around the members of what is joined or selected goes away; of a name that
an object has twice the last counts; and containers that hold NaN or Infinity, which are not JSON,
are written anew by the standard library where a filter looks into them (1e5 becomes 100000.0).

Source: awsdocs, batch-transform-data-processing.md; API_DataProcessing.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from hostler.core import Code, HostlerError
from hostler.jobs.transform.jsonpath import NoMatch, Path, parse

__all__ = ["DataProcessing", "RecordForm", "check"]

INPUT_KEY: Final = "SageMakerInput"
OUTPUT_KEY: Final = "SageMakerOutput"
SHOWN_CHARS_MAX: Final = 40
"""How much of a wrong record an error shows."""

_CELL: Final = re.compile(rb'([ \t]*"[^"]*(?:""[^"]*)*"[ \t]*|[^",]*)(,|\Z)')
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_SPACE: Final = b" \t\r\n"


class RecordForm(enum.Enum):
    """What filters can look into."""

    CSV = "CSV"
    JSON = "JSON"


_FORMS: Final = {
    "text/csv": RecordForm.CSV,
    "application/json": RecordForm.JSON,
    "application/jsonlines": RecordForm.JSON,
}


def check(content_type: str, accept: str, split: str, assemble: str) -> RecordForm:
    """The form of the records of a job that filters or joins.

    `split`, `assemble`: SplitType and AssembleWith, "None" for none.
    Raises: INVALID_ARGUMENT for settings that do not go with DataProcessing.
    """
    given, asked = _media_type(content_type), _media_type(accept)
    form = _FORMS.get(given)
    if form is None:
        raise _invalid(
            f"DataProcessing needs a ContentType of {', '.join(_FORMS)}, but the job has "
            f"{content_type!r}; set it, or leave out InputFilter, OutputFilter and JoinSource"
        )
    if asked != given:
        raise _invalid(
            f"DataProcessing needs an Accept that is the ContentType, {given}, but the job has "
            f"{accept!r}; set TransformOutput.Accept to {given}"
        )
    whole = given == "application/json" and split == "None"
    if not whole and split != "Line":
        also = " (or None, for one document an object)" if given == "application/json" else ""
        raise _invalid(
            f"DataProcessing of {given} needs SplitType Line{also}, but the job has {split!r}"
        )
    if not whole and assemble != "Line":
        raise _invalid(
            f"DataProcessing of {given} in lines needs AssembleWith Line, but the job has "
            f"{assemble!r}: its results would run together"
        )
    return form


@dataclass(frozen=True)
class DataProcessing:
    """What is done with each record before and after the model.

    Raises: INVALID_ARGUMENT for a filter that is no JSONPath, or no column of CSV.
    """

    form: RecordForm
    input_filter: str = "$"
    output_filter: str = "$"
    join: bool = False
    _input: Path = field(init=False, repr=False, compare=False)
    _output: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_input", self._parsed("InputFilter", self.input_filter))
        object.__setattr__(self, "_output", self._parsed("OutputFilter", self.output_filter))

    @property
    def active(self) -> bool:
        """Whether there is anything to do; else records and predictions go through as they are."""
        return self.join or not (self._input.everything and self._output.everything)

    def model_input(self, record: bytes) -> bytes:
        """What the model gets of a record.

        Raises: INVALID_ARGUMENT where the filter selects nothing, or the record is not of the form.
        """
        if self._input.everything:
            return record
        return self._selected(self._input, "InputFilter", record)

    def predictions(self, body: bytes, records: int) -> list[bytes]:
        """A model's answer for so many records, cut into one for each: its lines.

        JSON for one record may have line breaks. Raises: INVALID_ARGUMENT where the numbers differ.
        """
        text = body.rstrip(_SPACE)
        if self.form is RecordForm.JSON and records == 1 and text:
            return [bytes(_raw(text))] if b"\n" in text else [text]
        lines = [line.removesuffix(b"\r") for line in body.split(b"\n")]
        while lines and not lines[-1]:
            lines.pop()
        if len(lines) != records:
            hint = (
                "; an answer must have a line for each record, or the job BatchStrategy "
                "SingleRecord"
                if records > 1
                else "; with a filter or a join it must be one line"
            )
            raise _invalid(
                f"the model answered {records} {'record' if records == 1 else 'records'} with "
                f"{len(lines)} {'line' if len(lines) == 1 else 'lines'}: {_shown(body)}{hint}"
            )
        return lines

    def final(self, record: bytes, prediction: bytes) -> bytes:
        """What is written for a record: joined, then filtered; without a line end.

        Raises: INVALID_ARGUMENT where they cannot be joined, or the filter selects nothing.
        """
        if not self.join and self._output.everything:
            return prediction
        if not prediction.strip(_SPACE):
            raise _invalid(f"the model answered nothing for the record {_shown(record)}")
        if self.form is RecordForm.CSV:
            joined = self._joined_csv(record, prediction)
        elif self.join:
            joined = _joined_json(record, prediction)
        else:
            joined = prediction
        if not self._output.everything:
            joined = self._selected(self._output, "OutputFilter", joined)
        broken = self.form is RecordForm.JSON and (b"\n" in joined or b"\r" in joined)
        return _on_one_line(joined) if broken else joined

    def _parsed(self, which: str, text: str) -> Path:
        try:
            path = parse(text)
        except HostlerError as error:
            raise _invalid(f"{which}: {error.message}") from error
        if self.form is RecordForm.CSV and not path.of_columns:
            raise _invalid(
                f"{which} {text!r} cannot be used on CSV, whose rows are arrays; select columns by "
                "their indexes, such as $[0], $[1:] or $[0,-1]"
            )
        return path

    def _joined_csv(self, record: bytes, prediction: bytes) -> bytes:
        row = prediction.removesuffix(b"\n").removesuffix(b"\r")
        if b"\n" in row:
            raise _invalid(
                f"the model answered the record {_shown(record)} with more than one line: "
                f"{_shown(prediction)}; CSV to be joined or filtered is one row a record"
            )
        return b"%b,%b" % (record, row) if self.join else row

    def _selected(self, path: Path, which: str, text: bytes) -> bytes:
        try:
            if self.form is RecordForm.CSV:
                cells = _cells(text)
                return b",".join([cells[column] for column in path.columns(len(cells))])
            found = path.select(_raw(text), _opened)
            return bytes(found) if isinstance(found, msgspec.Raw) else _encoded(found)
        except NoMatch as error:
            raise _invalid(
                f"{which} {path.text!r} selects nothing of {_shown(text)}: {error}"
            ) from error


def _joined_json(record: bytes, prediction: bytes) -> bytes:
    answer = _raw(prediction)
    given = _opened(_raw(record))
    if not isinstance(given, dict):
        return _encoded({INPUT_KEY: _raw(record), OUTPUT_KEY: answer})
    if OUTPUT_KEY in given:
        # CHOICE: SageMaker says that such an input "can't" be, and that data "might be
        # overwritten"; what a job before this one found is not to be lost in silence.
        raise _invalid(
            f"the record {_shown(record)} has a {OUTPUT_KEY!r} already, which a join would "
            "overwrite; rename it in the input (the result of an earlier join?)"
        )
    given[OUTPUT_KEY] = answer
    return _encoded(given)


def _raw(text: bytes) -> msgspec.Raw:
    """A JSON value as its text. Raises: INVALID_ARGUMENT for what is none."""
    try:
        text.decode()  # msgspec skips over texts without reading them
        return _ANY.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _loaded(text)  # NaN and Infinity are no JSON, but models answer them
        return msgspec.Raw(text.strip(_SPACE))


def _opened(value: Any) -> Any:
    """An object or array with its members as texts; anything else as it is."""
    if not isinstance(value, msgspec.Raw):
        return value
    text = bytes(value)
    first = text[:1]
    if first not in (b"{", b"["):
        return value
    try:
        return _OBJECT.decode(text) if first == b"{" else _ARRAY.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _loaded(text)
    if isinstance(found, dict):
        return {key: _written(member) for key, member in found.items()}
    return [_written(member) for member in found]


def _loaded(text: bytes) -> Any:
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else "is not JSON"
        raise _invalid(f"{_shown(text)} {reason}: {error}") from error


def _written(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, separators=(",", ":")).encode())


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise _invalid(f"a name of an attribute is no Unicode text: {error}") from error


def _on_one_line(text: bytes) -> bytes:
    try:
        return msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return bytes(_written(_loaded(text)))


def _cells(row: bytes) -> list[bytes]:
    """The cells of a row as they are written. Raises: INVALID_ARGUMENT for a quote out of place."""
    if b'"' not in row:
        return row.split(b",")
    cells: list[bytes] = []
    at = 0
    while True:
        found = _CELL.match(row, at)
        if found is None:
            raise _invalid(
                f"column {len(cells)} (from 0) of {_shown(row)} has a quote that is not closed, or "
                'not at its beginning; write "" for one inside quotes, and no line break (RFC 4180)'
            )
        cells.append(found[1])
        at = found.end()
        if not found[2]:
            return cells


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def _shown(text: bytes) -> str:
    whole = text[: 4 * SHOWN_CHARS_MAX + 4].decode("utf-8", "replace")
    short = whole[:SHOWN_CHARS_MAX]
    return repr(short) if len(short) == len(whole) else f"{short!r}..."


def _invalid(message: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, message)
