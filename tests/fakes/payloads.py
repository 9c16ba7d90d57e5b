"""Models that take and give bytes, asked through real worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes.workers import Running

from hostler.core import (
    Context,
    HostlerError,
    InferResponse,
    Inspection,
    ModelSpec,
    payload_body,
    payload_request,
)
from hostler.repository import Config, Container, complete, read_container
from hostler.worker.channel import Frame
from hostler.worker.task import Request
from hostler.worker.tensors import Inputs

__all__ = ["ask", "container_spec", "refusal", "worker_request"]


def container_spec(folder: Path, image: str = "", **environment: str) -> ModelSpec:
    """The archive in `folder` as the entry of a container."""
    found = read_container("e/1", folder, "t", Container(image, environment), 1, Config())
    return complete(found.packages[0].versions[-1], Inspection())


async def ask(
    running: Running,
    body: bytes,
    content_type: str = "",
    accept: str = "",
    attributes: str = "",
) -> Any:
    """All pieces of an answer and its parameters, or the error that came last."""
    given = {"content_type": content_type, "accept": accept, "custom_attributes": attributes}
    parameters = {name: value for name, value in given.items() if value}
    sink = running.begin([payload_request(body, parameters, Context())])
    await sink.answers()
    found = sink.streams[0]
    if isinstance(found[-1], HostlerError):
        return found[-1]
    responses = [response for response in found if isinstance(response, InferResponse)]
    pieces = [bytes(payload_body(response)) for response in responses]
    return pieces, dict(responses[0].parameters)


async def refusal(running: Running, body: bytes, *args: str) -> tuple[object, str]:
    """The status and message of an error."""
    error = await ask(running, body, *args)
    assert isinstance(error, HostlerError), error
    return error.details.get("status"), error.message


def worker_request(
    body: bytes, content_type: str = "", accept: str = "", attributes: str = ""
) -> Request:
    """A request as an adapter in a worker gets it."""
    given = {"content_type": content_type, "accept": accept, "custom_attributes": attributes}
    parameters = {name: value for name, value in given.items() if value}
    inputs = [["body", "UINT8", [len(body)], 0, 0, len(body)]]
    header = {"id": "r1", "outputs": None, "parameters": parameters, "inputs": inputs}
    frame = Frame({"region": [0, 0]}, bytearray(body))
    return Request(header, Inputs(frame, None, False), 5, 0)
