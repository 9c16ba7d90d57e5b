"""DJL's Python models: a `model.py` with `handle(inputs) -> Output`.

Source: djl-serving `python_sync_engine.py`, `service_loader.py`; `PyProcess.java` for the call that
initialises, `RequestParser.java` for what becomes of a request.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import sys
import traceback
from typing import Any, Iterator
from urllib.parse import parse_qsl

from .. import djl_python
from ..djl_python.outputs import encode
from ..errors import Failure
from ..exchange import Exchange
from ..payloads import MESSAGE_CHARS_MAX, Question, media_type, payload, stream
from ..task import Answer, Request, Task

__all__ = ["DjlAdapter", "new_adapter"]

FAILED = 424
OUT_OF_MEMORY = 507
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_BOUNDARY = re.compile(r'boundary="?([^";,]{1,70})')
_PART_NAME = re.compile(rb'[;\s]name="([^"]*)"', re.IGNORECASE)
_MEMORY_ERRORS = ("OutOfMemoryError", "MemoryError")


def new_adapter(exchange: Exchange) -> DjlAdapter:
    """The adapter of runtime `djl`."""
    return DjlAdapter(exchange)


class DjlAdapter:
    """Runs one function of one module, a request at a time.

    Options: `entry_point`, the module's file in the package; `handler`, its function;
    `properties`, what the call that initialises gets, as a JSON object.
    """

    writable = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._task: Task
        self._handle: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._device = "-1"

    def open(self, task: Task) -> dict[str, Any]:
        """Import the module."""
        self._task = task
        self._device = str(task.device) if task.kind == "gpu" else "-1"
        djl_python.install()
        # A __pycache__ would be a change of the package's folder, which others may share.
        sys.dont_write_bytecode = True
        folder = os.path.dirname(task.file)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        name = os.path.splitext(os.path.basename(task.file))[0]
        spec = importlib.util.spec_from_file_location(name, task.file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        handler = task.options.get("handler", "handle")
        self._handle = getattr(module, handler, None)
        if not callable(self._handle):
            raise Failure(
                "INVALID_ARGUMENT",
                "model '{}': {} must define {}(inputs)".format(
                    task.model, os.path.basename(task.file), handler
                ),
            )
        return {}

    def start(self, config: dict[str, Any]) -> None:
        """Call the handler with an empty input, so that it loads its model."""
        inputs = self._inputs(json.loads(self._task.options.get("properties", "{}")))
        output = self._call(inputs)
        code = getattr(output, "code", 200)
        if output is not None and code >= 300:
            text = _text(output) or output.message
            raise Failure(
                "MODEL_ERROR",
                "model '{}' answered the empty input that initialises it with {}: {}".format(
                    self._task.model, code, text
                ),
            )

    def execute(self, requests: list[Request]) -> list[Answer | Failure | None]:
        """Answer each by itself."""
        return [self._execute(request) for request in requests]

    def close(self) -> None:
        """Nothing to do."""

    def _execute(self, request: Request) -> Answer | Failure | None:
        try:
            output = self._call(self._request(Question(request)))
            if output is None:
                return payload(b"")
            if hasattr(output, "__anext__"):
                stream(
                    self._exchange.streams, request, self._awaited(output), ("", ""), self._failed
                )
                return None
            if not isinstance(output, djl_python.Output):
                text = "model '{}': {} must return an Output or None, it returned {}".format(
                    self._task.model, self._handle.__name__, type(output).__name__
                )
                return Failure("MODEL_ERROR", text, FAILED)
            try:
                return self._answer(request, output)
            finally:
                self._finalize(output)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            return self._failed(error)

    def _answer(self, request: Request, output: djl_python.Output) -> Answer | Failure | None:
        told = (
            str(_property(output, "content-type") or "application/octet-stream"),
            str(_property(output, ATTRIBUTES) or ""),
        )
        if output.code >= 300:
            status = output.code if 400 <= output.code <= 599 else FAILED
            return Failure("MODEL_ERROR", _text(output) or output.message, status)
        if output.stream_content is None:
            return payload(_data(output), *told)
        stream(self._exchange.streams, request, _pieces(output), told, self._failed)
        return None

    def _call(self, inputs: djl_python.Input) -> Any:
        inputs.properties["model_dir"] = os.path.dirname(self._task.file)
        result = self._handle(inputs)
        return self._event_loop().run_until_complete(result) if _is_awaitable(result) else result

    def _awaited(self, outputs: Any) -> Iterator[bytes]:
        """The content of answers that come one by one, from an asynchronous handler."""
        loop = self._event_loop()
        try:
            while True:
                try:
                    output = loop.run_until_complete(outputs.__anext__())
                except StopAsyncIteration:
                    return
                is_output = isinstance(output, djl_python.Output)
                yield bytes(_data(output) if is_output else encode(output))
        finally:
            loop.run_until_complete(outputs.aclose())

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        """One for all runs, so that a model's connections outlive a run."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def _inputs(self, properties: dict[str, Any]) -> djl_python.Input:
        inputs = djl_python.Input()
        inputs.function_name = self._task.options.get("handler", "handle")
        inputs.properties.update(properties)
        degree = self._task.options.get("tensor_parallel_degree", "")
        if degree:
            inputs.properties["tensor_parallel_degree"] = int(degree)
        inputs.properties["device_id"] = self._device
        return inputs

    def _request(self, question: Question) -> djl_python.Input:
        headers = {
            "Content-Type": question.content_type,
            "Accept": question.accept,
            "requestId": question.id,
        }
        # DJL takes its own settings of a request out of SageMaker's attributes: `a=1;b=2`.
        for item in question.custom_attributes.split(";"):
            key, equals, value = item.partition("=")
            if equals:
                headers[key.strip()] = value.strip()
        inputs = self._inputs({key: value for key, value in headers.items() if value})
        for name, content in _parts(question):
            inputs.content.add(key=name, value=bytearray(content))
        return inputs

    def _failed(self, error: BaseException) -> Failure:
        name = getattr(self._handle, "__name__", "handle")
        failure = self._exchange.results.failure(error, "failed in {}".format(name))
        if failure.code == "MODEL_ERROR" and not failure.status:
            starved = type(error).__name__ in _MEMORY_ERRORS or "out of memory" in str(error)
            failure.status = OUT_OF_MEMORY if starved else FAILED
        return failure

    def _finalize(self, output: djl_python.Output) -> None:
        try:
            output.execute_finalize()
        except Exception:  # noqa: BLE001 - user code; the answer has gone out
            traceback.print_exc(file=sys.stderr)


def _is_awaitable(value: Any) -> bool:
    return hasattr(value, "__await__")


def _property(output: djl_python.Output, key: str) -> Any:
    wanted = key.lower()
    return next((v for k, v in output.properties.items() if k.lower() == wanted), None)


def _data(output: djl_python.Output) -> Any:
    """The content called `data`, else the first; one body has no room for others."""
    found = output.content.get("data")
    if found is None:
        return b"" if output.content.is_empty() else output.content.value_at(0)
    return found


def _text(output: djl_python.Output) -> str:
    return bytes(_data(output)).decode("utf-8", "replace")[:MESSAGE_CHARS_MAX]


def _pieces(output: djl_python.Output) -> Iterator[bytes]:
    pieces = iter(output.stream_content)
    try:
        for item in pieces:
            formatter = output.stream_output_formatter
            yield bytes(encode(item if formatter is None else formatter(item)))
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def _parts(question: Question) -> Iterator[tuple[str, bytes]]:
    """The parts of a form by their names, or all of the body as `data`."""
    kind = media_type(question.content_type)
    if kind == "application/x-www-form-urlencoded":
        for key, text in parse_qsl(question.body.decode("utf-8", "replace"), True):
            yield key, text.encode()
    elif kind == "multipart/form-data":
        yield from _form_parts(question)
    else:
        yield "data", question.body


def _form_parts(question: Question) -> Iterator[tuple[str, bytes]]:
    """Source: RFC 7578, RFC 2046 section 5.1."""
    found = _BOUNDARY.search(question.content_type)
    if found is None:
        raise Failure("MODEL_ERROR", "multipart/form-data without a boundary", 400)
    for part in (b"\r\n" + question.body).split(b"\r\n--" + found.group(1).encode())[1:]:
        head, blank, data = part.partition(b"\r\n\r\n")
        name = _PART_NAME.search(head)
        if blank:
            yield (name.group(1).decode("utf-8", "replace") if name else "data"), data
