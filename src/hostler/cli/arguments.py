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
    arguments: type[Arguments], *, after: str = ""
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Let a function of one dataclass be a typer command whose options are its fields.

    `arguments`: a dataclass whose fields are annotated as typer wants parameters to be.
    `after`: the name of a parameter in front of it that somebody else gives, "" for none.
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

    if after:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.insert(0, inspect.Parameter(after, kind, annotation=Any))

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        def command(*given: Any, **values: Any) -> int:
            return function(*given, arguments(**values))

        command.__doc__ = function.__doc__
        command.__dict__["__signature__"] = inspect.Signature(parameters)
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate
