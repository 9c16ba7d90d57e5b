"""How a model answers a body of some media type: decode, infer, encode, or hand the bytes on.

Packages with handlers of their own (`ModelSpec.opaque`) get the bytes as they are; for all others
the body is made into tensors by its media type. Many bodies at a time: see `asking_many`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable
from typing import Final, NamedTuple, Protocol

from hostler.core import (
    ACCEPT,
    CONTENT_TYPE,
    CUSTOM_ATTRIBUTES,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    ResponseStream,
    Signature,
    payload_body,
    payload_request,
)
from hostler.protocols import content, oip

__all__ = [
    "Answer",
    "Askable",
    "Prepared",
    "Question",
    "answer",
    "decodes_slowly",
    "prepare",
    "read_answer",
    "refused",
]

_V2_TYPE: Final = "application/json"
_BINARY_TYPE: Final = "application/vnd.sagemaker-triton.binary+json;json-header-size="
"""Source: Triton `sagemaker_server.cc`, binary MIME type."""

_HEADER_CHARS_MAX: Final = 1024
"""Of what user code says in headers. Source: InvokeEndpoint, CustomAttributes and ContentType."""

_V2_JSON: Final = content.Form.V2_JSON
_V2_BINARY: Final = content.Form.V2_BINARY
_OPAQUE: Final = content.Form.RAW
_answer_form = functools.lru_cache(maxsize=1024)(content.answer_form)


class Askable(Protocol):
    """What is needed of a pinned model; see `LiveModel`."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def version(self) -> int:
        """Which version of it."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """The completed package."""
        ...

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def infer(self, request: InferRequest) -> Awaitable[InferResponse]:
        """Ask it. Raises: HostlerError, here or when awaited."""
        ...

    def stream(self, request: InferRequest) -> ResponseStream:
        """Ask it for all responses."""
        ...


class Question(NamedTuple):
    """What a client, or the container before, sends. `accept`: "" for any."""

    body: content.Body
    content_type: str = ""
    accept: str = ""
    custom_attributes: str = ""


class Answer(NamedTuple):
    """What a container answers. `custom_attributes`: None unless it set them."""

    body: bytes
    content_type: str
    custom_attributes: str | None = None


class Prepared(NamedTuple):
    """A request for a model, and how its answer is to be written.

    `form`: of the request, None for an opaque model's. `answers`: of the answer.
    """

    request: InferRequest
    form: content.Form | None
    answers: content.Form
    accept: str


def decodes_slowly(live: Askable, question: Question) -> bool:
    """Whether `prepare` takes so long that it belongs in a thread: pictures are decompressed."""
    kind = question.content_type
    if "image" not in kind.lower() or live.spec.opaque:
        return False
    try:
        return content.is_slow(content.form_of(kind, b""))
    except HostlerError:
        return False  # which `prepare` says at once


def prepare(live: Askable, question: Question) -> Prepared:
    """Make the request, whose context is nobody's yet: the caller fills it in, or puts its own.

    Of any thread. Raises: MODEL_ERROR with the status that a container of AWS's own would give
    (400, 406, 415) for a body that cannot be read, or an answer that cannot be written as it is
    wanted.
    """
    body, content_type, accept, custom_attributes = question
    if live.spec.opaque:
        parameters: dict[str, str | int | float | bool] = {
            CONTENT_TYPE: content_type,
            ACCEPT: accept,
        }
        if custom_attributes:
            parameters[CUSTOM_ATTRIBUTES] = custom_attributes
        return Prepared(payload_request(body, parameters, Context()), None, _OPAQUE, accept)
    try:
        form = content.form_of(content_type, body)
        answers = _answer_form(form, accept)
        if form is _V2_JSON:
            request = oip.decode_request(body, None, live.signature)
        elif form is _V2_BINARY:
            size = content.json_header_size(content_type, len(body))
            request = oip.decode_request(body, size, live.signature)
        else:
            request = content.decode(body, form, content_type, live.signature)
    except HostlerError as error:
        raise refused(error) from None
    return Prepared(request, form, answers, accept)


async def answer(live: Askable, asked: Prepared, answer_bytes_max: int) -> Answer:
    """Ask a pinned model for its one answer; the pieces of a streamed one are joined.

    `answer_bytes_max`: of the pieces together. Raises: HostlerError, as `prepare` and as the
    model's own callers get it. Cancelled, it cancels a stream; of one response the context does.
    """
    try:
        if live.spec.decoupled:
            return await _joined(live, asked, answer_bytes_max)
        return read_answer(live, asked, await live.infer(asked.request))
    except HostlerError as error:
        raise refused(error) from None


def read_answer(live: Askable, asked: Prepared, response: InferResponse) -> Answer:
    """What is written of a response; a copy, since tensors are the model's. Of any thread."""
    parameters = response.parameters
    if asked.form is None:
        attributes = parameters.get(CUSTOM_ATTRIBUTES)
        said = str(parameters.get(CONTENT_TYPE, ""))[:_HEADER_CHARS_MAX]
        return Answer(
            bytes(payload_body(response)),
            said or asked.accept or "application/octet-stream",
            None if attributes is None else str(attributes)[:_HEADER_CHARS_MAX],
        )
    if asked.answers is _V2_JSON or asked.answers is _V2_BINARY:
        name = str(live.spec.config.get("name", "")) or live.name
        parts, json_size = oip.encode_response(
            response, asked.request, name, live.version, live.signature
        )
        kind = _V2_TYPE if json_size is None else f"{_BINARY_TYPE}{json_size}"
        return Answer(b"".join(parts), kind)
    body, kind = content.encode(response, asked.form, asked.accept, live.signature)
    return Answer(bytes(body), kind)


_STATUS: Final = {Code.INVALID_ARGUMENT: 400, Code.UNSUPPORTED_ENCODING: 415}


def refused(error: HostlerError) -> HostlerError:
    """What is wrong with a body is the model's to say, not the endpoint's."""
    status = _STATUS.get(error.code)
    if status is None:
        return error
    return HostlerError(
        Code.MODEL_ERROR, error.message, details={"status": status, **error.details}
    )


async def _joined(live: Askable, asked: Prepared, bytes_max: int) -> Answer:
    """All pieces of a streamed answer; other models must give exactly one response."""
    responses = live.stream(asked.request)
    first: Answer | None = None
    rest: list[bytes] = []
    size = 0
    try:
        async for response in responses:
            if not response.outputs:
                continue
            piece = read_answer(live, asked, response)
            size += len(piece.body)
            if size > bytes_max:
                raise HostlerError(
                    Code.MODEL_ERROR,
                    f"the pieces of the answer of model '{live.name}' exceed {bytes_max} bytes "
                    "(gateway.body_bytes_max); ask with InvokeEndpointWithResponseStream",
                )
            if first is None:
                first = piece
                asked.request.context.lift_deadline()
            elif asked.form is None:
                rest.append(piece.body)
            else:
                raise HostlerError(
                    Code.UNIMPLEMENTED,
                    f"model '{live.name}' gives several responses; ask for them with "
                    "InvokeEndpointWithResponseStream",
                )
    finally:
        responses.close()
    if first is None:
        raise HostlerError(Code.MODEL_ERROR, f"model '{live.name}' gave no response")
    return first._replace(body=b"".join((first.body, *rest))) if rest else first
