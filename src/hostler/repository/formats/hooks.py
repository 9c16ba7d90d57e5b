"""A script of hooks around a model that hostler itself computes.

    model.onnx                    or model.pt2, or a Triton repository
    code/inference.py             input_fn and output_fn, or input_handler and output_handler
    code/requirements.txt         installed for the workers of the script

The script never sees the model: its workers make tensors of bodies and bodies of tensors, and ask
the model between the two, where requests of all workers are joined. A script that loads or runs a
model itself is for `handlers`. What a script has is read from its text; nothing of it is run.

Source: sagemaker-inference-toolkit, sagemaker-tensorflow-serving-container README.md.
"""

from __future__ import annotations

import ast
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from hostler.core import ASKS, HostlerError, ModelSpec
from hostler.repository.formats.handlers import requirements_of, script_of
from hostler.repository.formats.opaque import opaque_spec
from hostler.repository.package import unserved
from hostler.repository.reading import Reading

__all__ = ["OPEN", "RUNTIME", "WORKERS", "detect", "function_names", "read"]

RUNTIME: Final = "hooks"
WORKERS: Final = "SAGEMAKER_MODEL_SERVER_WORKERS"
"""Processes an instance. Source: environment.py of sagemaker-inference-toolkit."""

OPEN: Final = "HOSTLER_REQUESTS_PER_WORKER"
"""Requests that a worker has in hand while the model computes; see `worker/adapters/hooks.py`."""

_FUNCTIONS: Final = frozenset({"input_fn", "output_fn"})
_HANDLERS: Final = frozenset({"input_handler", "output_handler"})
_HANDLER: Final = "handler"
_COMPUTING: Final = frozenset({"model_fn", "predict_fn", "transform_fn"})

_SCRIPT_BYTES_MAX: Final = 256 * 1024
"""Its tree takes some hundred times as much; a longer script is not taken for one of hooks."""

_WORKERS_DEFAULT_MAX: Final = 4
"""Each is a Python with numpy, some 40 MB; more are for whoever asks for them."""

_WORKERS_MAX: Final = 256
"""An instance has no more cores than about this."""

_OPEN_MAX: Final = 64
"""As many as are joined to one batch by default."""


def detect(reading: Reading) -> bool:
    """Whether there is a script with hooks and nothing that computes. Reads the script."""
    try:
        script = script_of(reading)
    except HostlerError:
        return False  # a name of a script that is not there, which other readers may not need
    return bool(script) and _is_hooks(_names(reading, script))


def _is_hooks(names: Iterable[str]) -> bool:
    found = set(names)
    return bool(found & (_FUNCTIONS | _HANDLERS | {_HANDLER})) and not found & _COMPUTING


def read(reading: Reading, asked: str) -> ModelSpec:
    """The opaque model that runs the hooks. `asked`: the hosted model that it asks.

    Raises: INVALID_ARGUMENT, UNIMPLEMENTED naming what the script lacks, or the variable.
    """
    script = script_of(reading)
    kind = _kind(reading, script, set(_names(reading, script)))
    options = {"script": script, "kind": kind, ASKS: asked}
    options["served_name"] = asked[len(reading.name) + 1 :]
    if reading.variable(OPEN):
        options["open_max"] = str(_number(reading, OPEN, _OPEN_MAX))
    workers = _workers_default()
    if reading.variable(WORKERS):
        workers = _number(reading, WORKERS, _WORKERS_MAX)
    return opaque_spec(
        replace(reading, instances=reading.instances * workers),
        RUNTIME,
        reading.folder / script,
        options=options,
        streams=True,
        requirements=requirements_of(reading, script),
    )


def _kind(reading: Reading, script: str, names: set[str]) -> str:
    functions, handlers = names & _FUNCTIONS, names & _HANDLERS
    if functions and handlers:
        raise reading.wrong(
            f"{script} has {_listed(functions)} and {_listed(handlers)}; hooks are of one kind, "
            "so keep one or the other"
        )
    if functions:
        return "functions"
    if len(handlers) == 1:
        raise reading.wrong(f"{script} must have both input_handler and output_handler, it has one")
    if not handlers:
        raise unserved(
            reading.name,
            script,
            "has a handler that calls TensorFlow Serving, which does not run here; bring "
            "input_handler and output_handler, or input_fn and output_fn",
        )
    return "handlers"


def _workers_default() -> int:
    return min(_WORKERS_DEFAULT_MAX, len(os.sched_getaffinity(0)))


def _number(reading: Reading, name: str, most: int) -> int:
    """A variable that is a number of at least 1."""
    stated = reading.variable(name)
    number = int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 9 else 0
    if not 1 <= number <= most:
        raise reading.wrong(f"{name} is '{stated}'; it is a number from 1 to {most}")
    return number


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))


# -- what a script has ---------------------------------------------------------------------


def _names(reading: Reading, script: str) -> frozenset[str]:
    """Of the functions of a script; none where it is too long, or no Python that is known here."""
    text = _text(reading.folder / posixpath.normpath(script))
    return frozenset() if text is None else function_names(text)


def _text(path: Path) -> bytes | None:
    with path.open("rb") as file:
        text = file.read(_SCRIPT_BYTES_MAX + 1)
    return text if len(text) <= _SCRIPT_BYTES_MAX else None


def function_names(text: bytes) -> frozenset[str]:
    """What a module defines, assigns or imports at its top, and in the branches there."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()  # its worker says what is wrong with it
    return frozenset(_defined(tree.body))


def _defined(body: Sequence[ast.stmt]) -> Iterator[str]:
    pending = list(body)
    while pending:
        match pending.pop():
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name for alias in names)
            case ast.Assign(targets=targets):
                named = (node for target in targets for node in ast.walk(target))
                yield from (
                    node.id
                    for node in named
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                )
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
                yield name
            case ast.If(body=inside, orelse=other) | ast.For(body=inside, orelse=other):
                pending += [*inside, *other]
            case ast.With(body=inside):
                pending += inside
            case (
                ast.Try(body=inside, handlers=handlers, orelse=other, finalbody=final)
                | ast.TryStar(body=inside, handlers=handlers, orelse=other, finalbody=final)
            ):
                pending += [*inside, *other, *final]
                pending += [statement for handler in handlers for statement in handler.body]
            case _:
                pass
