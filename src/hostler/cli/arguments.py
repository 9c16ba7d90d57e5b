"""A command's arguments as one dataclass, for commands with more than a handful."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["takes"]

Arguments = TypeVar("Arguments")


def takes(
    arguments: type[Arguments],
) -> Callable[[Callable[[Arguments], int]], Callable[..., int]]:
    """Let a function of one dataclass be a typer command whose options are its fields.

    `arguments`: a dataclass whose fields are annotated as typer wants parameters to be.
    """
    hints = typing.get_type_hints(arguments, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[field.name],
            default=inspect.Parameter.empty
            if field.default is dataclasses.MISSING
            else field.default,
        )
        for field in dataclasses.fields(cast(Any, arguments))
    ]

    def decorate(function: Callable[[Arguments], int]) -> Callable[..., int]:
        def command(**values: Any) -> int:
            return function(arguments(**values))

        command.__doc__ = function.__doc__
        command.__dict__["__signature__"] = inspect.Signature(parameters)
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate
