"""A body of many lines as several, for models that take tensors: a row a line. Pure.

One call that reads or writes text keeps Python's lock to its end, so that 6 MiB of CSV hold up
everybody for a tenth of a second. Such a model's answer to some lines does not depend on the lines
beside them, so that the body is cut, and the answers are put together again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hostler.core import HostlerError, Signature
from hostler.protocols import content
from hostler.serving import Answer, Question

__all__ = ["PIECE_BYTES", "joined", "pieces"]

PIECE_BYTES: Final = 16 << 10
"""A millisecond of reading text."""

_LINES: Final = frozenset((content.Form.CSV, content.Form.JSON_LINES))


def pieces(question: Question, signature: Signature) -> list[Question]:
    """The same lines as several questions, in order; the question itself where it must stay whole.

    It must where lines may end within a cell, where all lines make one tensor, and where the answer
    is no lines either.
    """
    body = question.body
    if len(body) <= PIECE_BYTES or not signature.batched or not _is_of_lines(question):
        return [question]
    data = bytes(body)
    if b'"' in data and "csv" in question.content_type:
        return [question]
    found: list[Question] = []
    at, size = 0, len(data)
    while at < size:
        end = size
        if size - at > PIECE_BYTES:
            end = data.rfind(b"\n", at, at + PIECE_BYTES) + 1 or data.find(b"\n", at) + 1 or size
        piece = data[at:end]
        if piece.strip():
            found.append(question._replace(body=piece))
        at = end
    return found or [question]


def joined(answers: Sequence[Answer | HostlerError]) -> Answer | HostlerError:
    """The answers to all pieces as one; the first error if there is one."""
    if len(answers) == 1:
        return answers[0]
    bodies: list[bytes] = []
    kind = ""
    for answer in answers:
        if isinstance(answer, HostlerError):
            return answer
        bodies.append(answer.body)
        kind = answer.content_type
    return Answer(b"".join(bodies), kind)


def _is_of_lines(question: Question) -> bool:
    try:
        form = content.form_of(question.content_type, b"")
        return form in _LINES and content.answer_form(form, question.accept) in _LINES
    except HostlerError:
        return False  # which asking it says
