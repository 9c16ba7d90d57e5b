"""`hostler infer`."""

from __future__ import annotations

import enum
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Annotated, Any

import numpy as np
import typer

from hostler.cli.arguments import takes
from hostler.cli.client import (
    URL_DEFAULT,
    CaOption,
    CertOption,
    Client,
    KeyOption,
    TimeoutOption,
    TokenOption,
    UrlOption,
    model_path,
)
from hostler.cli.failures import Misuse
from hostler.cli.inputs import InputReader, whole_request
from hostler.cli.output import Column, print_json, print_table
from hostler.cli.progress import waiting
from hostler.cli.wire import (
    Output,
    decode_answer,
    decode_event,
    encode_request,
    input_specs,
)

__all__ = ["command"]

_COLUMNS = (Column("OUTPUT"), Column("TYPE"), Column("SHAPE"), Column("VALUES", wide=True))


class Form(enum.StrEnum):
    """How outputs are printed."""

    table = "table"
    json = "json"
    npy = "npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class InferArguments:
    """What `hostler infer` is given."""

    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            help="A value: JSON text, a .json, .npy or image file, or - for stdin. Repeat it as "
            "NAME=VALUE for several inputs.",
            metavar="[NAME=]VALUE",
        ),
    ]
    output: Annotated[Form, typer.Option("--output", "-o", help="How to print outputs.")] = (
        Form.table
    )
    want: Annotated[
        list[str] | None,
        typer.Option("--want", help="Only this output. Repeatable.", metavar="OUTPUT"),
    ] = None
    binary: Annotated[
        bool, typer.Option("--binary", help="Send and fetch raw tensors instead of JSON.")
    ] = False
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Print each response as it comes, for models that send several. With --output "
            "json each is one line.",
        ),
    ] = False
    white: Annotated[
        float | None,
        typer.Option(
            "--white",
            help="Value of a white pixel; 1 for floating-point inputs and 255 for others unless "
            "given.",
            metavar="NUMBER",
        ),
    ] = None
    version: Annotated[
        str | None,
        typer.Option("--version", help="Model version; unless given the server chooses."),
    ] = None
    url: UrlOption = URL_DEFAULT
    ca: CaOption = None
    cert: CertOption = None
    key: KeyOption = None
    token: TokenOption = None
    timeout: TimeoutOption = 300.0


@takes(InferArguments)
def command(given: InferArguments) -> int:
    """Ask a model of a running server and print its outputs.

    [bold]hostler infer digits --input '[0, 0, 5, 13, 9, 1, 0, 0]'[/bold]

    [bold]hostler infer resnet --input cat.jpg --want probabilities[/bold]

    [bold]hostler infer add --input INPUT0='[1, 2]' --input INPUT1=second.npy[/bold]

    [bold]cat request.json | hostler infer digits --input - --output json[/bold]

    [bold]hostler infer story --input prompt='Once upon a time' --stream[/bold]

    A single item gets its batch dimension; flat data is folded into the input's shape. A JSON
    object holds an input in each member, or is a whole V2 request (with "inputs"), sent as it is.

    Images are resized to the input's shape and made grey or RGB: (-1, 3, H, W) and (-1, 1, H, W)
    get channels first, (-1, H, W, 3) channels last, (-1, H, W) and (-1, 64) grey. Floating-point
    inputs get 0 to 1 (or 0 to --white), others 0 to 255.
    """
    client = Client(given.url, given.timeout, given.ca, given.cert, given.key, given.token)
    reason = f"waiting for '{given.model}' at {client.url}; if it is not loaded yet, that is first"
    if given.stream:
        return _stream(given, client, reason)
    with waiting(reason):
        body, headers = _request(given, client)
        answer = client.post(model_path(given.model, given.version, "infer"), body, headers)
    _print(given.output, *decode_answer(answer.body, answer.headers))
    return 0


def _stream(given: InferArguments, client: Client, reason: str) -> int:
    """Print the responses of infer_stream, each at once."""
    with waiting(reason):
        body, headers = _request(given, client)
        path = model_path(given.model, given.version, "infer_stream")
        events = client.post_events(path, body, headers)
        first = next(events, None)
    for event in chain([] if first is None else [first], events):
        described, outputs = decode_event(event)
        _print(given.output, described, outputs, indent=None)
        sys.stdout.flush()
    return 0


def _print(
    form: Form, described: dict[str, Any], outputs: Sequence[Output], indent: int | None = 2
) -> None:
    if form is Form.npy:
        _write_npy(outputs)
    elif form is Form.json:
        print_json(_as_json(described, outputs), indent=indent)
    else:
        print_table(_COLUMNS, [_row(output) for output in outputs], empty="No outputs.")


def _request(given: InferArguments, client: Client) -> tuple[bytes, dict[str, str]]:
    if given.stream and given.output is Form.npy:
        raise Misuse(
            "--output npy prints one array, but --stream any number; leave one of them out"
        )
    stdin = cache(sys.stdin.buffer.read)
    body = whole_request(given.inputs, stdin)
    if body is not None:
        if given.want or given.binary or given.output is Form.npy:
            raise Misuse(
                "a whole V2 request says itself what it wants; leave out --want, "
                "--binary and --output npy"
            )
        return body, {"Content-Type": "application/json"}
    specs = input_specs(client.get(model_path(given.model, given.version)).json())
    tensors = InputReader(specs, stdin, given.white).tensors(given.inputs)
    return encode_request(
        tensors,
        binary=given.binary,
        binary_outputs=not given.stream and (given.binary or given.output is Form.npy),
        wanted=given.want or (),
    )


def _write_npy(outputs: Sequence[Output]) -> None:
    if len(outputs) != 1:
        names = ", ".join(output.name for output in outputs)
        raise Misuse(f"--output npy prints one output; choose with --want one of {names}")
    if sys.stdout.isatty():
        raise Misuse("--output npy prints bytes; send them to a file, as in `> out.npy`")
    array = outputs[0].array
    if array.dtype == object:  # .npy holds objects only by pickle; fixed-width text needs none
        array = np.array([_text(item) for item in array.ravel()]).reshape(array.shape)
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    sys.stdout.buffer.write(content.getvalue())
    sys.stdout.buffer.flush()


def _as_json(described: dict[str, Any], outputs: Sequence[Output]) -> dict[str, Any]:
    """The answer as JSON, its raw tensors written out."""
    listed = [
        {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
            "data": [_text(item) for item in output.array.ravel().tolist()],
        }
        for output in outputs
    ]
    return {**described, "outputs": listed}


def _row(output: Output) -> tuple[str, ...]:
    array = output.array
    if array.dtype == object:
        array = np.array([_text(item) for item in array.ravel()], object).reshape(array.shape)
    values = np.array2string(array, precision=6, separator=", ", threshold=40, edgeitems=3)
    return output.name, output.datatype, str(list(output.shape)), values


def _text(item: Any) -> Any:
    return item.decode(errors="replace") if isinstance(item, bytes) else item
