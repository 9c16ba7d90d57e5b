"""The functions of a script of handlers, and what each of them is called with.

Source: transformer.py of sagemaker-inference-toolkit.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from types import ModuleType
from typing import Any, Callable

from .errors import Failure
from .handler_context import Context
from .task import Task
from .toolkits import Toolkit

__all__ = ["Functions", "Step", "load_script", "step_of"]

TAKES = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}
"""How many arguments each gets, the context aside."""
PACKAGE = "sagemaker_code"
"""What the folder of a script is called as a package, so that it may say `from .x import y`."""
ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Step:
    """One function. `own`: the package brings it; else it is the toolkit's."""

    def __init__(self, name: str, function: Callable[..., Any], *, own: bool, where: str) -> None:
        self.name = name
        self.own = own
        self._function = function
        self._context = own and takes_context(function, TAKES[name], "{} in {}".format(name, where))

    def __call__(self, context: Context, *arguments: Any) -> Any:
        """Call it, with the context where it takes one."""
        if self._context:
            return self._function(*arguments, context)
        return self._function(*arguments)


def takes_context(function: Callable[..., Any], count: int, where: str) -> bool:
    """Whether it takes a context behind its `count` arguments.

    A further argument with a default is one only by its name. Raises: Failure for a function that
    cannot be called with either.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False  # built in: it says nothing of itself
    plain = [p for p in parameters if p.kind not in ANY_NUMBER]
    further = plain[count : count + 1]
    context = bool(further) and (
        further[0].default is inspect.Parameter.empty
        or further[0].name in ("context", "ctx", "_context")
    )
    given = count + context
    needed = [p for p in plain if p.default is inspect.Parameter.empty]
    takes_more = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    if len(needed) > given or (len(plain) < count and not takes_more):
        raise Failure(
            "INVALID_ARGUMENT",
            "{} takes {} arguments; it is called with {}, or with a context behind them".format(
                where, len(plain), count
            ),
        )
    return context and any(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in further)


def step_of(script: ModuleType | None, name: str, default: Any, where: str) -> Step:
    """The script's own function of this name, else the toolkit's. `where`: the script."""
    function = getattr(script, name, None)
    if callable(function):
        return Step(name, function, own=True, where=where)
    return Step(name, default, own=False, where=where)


class Functions:
    """What is called for a request: `transform_fn` alone, or the other three."""

    def __init__(self, script: ModuleType | None, toolkit: Toolkit, task: Task) -> None:
        where = task.options.get("script", "")
        brought = {name: getattr(script, name, None) for name in TAKES} if script else {}
        own = {name: function for name, function in brought.items() if callable(function)}
        mixed = sorted(own.keys() & {"input_fn", "predict_fn", "output_fn"})
        if "transform_fn" in own and mixed:
            raise Failure(
                "INVALID_ARGUMENT",
                "model '{}': {} has transform_fn and {}; transform_fn takes the place of all "
                "three, so keep one or the other".format(task.model, where, ", ".join(mixed)),
            )

        def step(name: str) -> Step:
            return step_of(script, name, getattr(toolkit, name, None), where)

        self.model = step("model_fn")
        self.input = step("input_fn")
        self.predict = step("predict_fn")
        self.output = step("output_fn")
        self.transform = step("transform_fn") if "transform_fn" in own else None


def load_script(task: Task) -> ModuleType | None:
    """Import the package's script, its folder and the archive's first on `sys.path`.

    None where the package has none.
    """
    script = task.options.get("script", "")
    code = os.path.join(task.directory, "code")
    path = os.path.join(task.directory, script) if script else ""
    # A __pycache__ would be a change of the package's folder, which others may share.
    sys.dont_write_bytecode = True
    for folder in (task.directory, code, os.path.dirname(path)):
        if folder and os.path.isdir(folder) and folder not in sys.path:
            sys.path.insert(0, folder)
    if not script:
        return None
    package = ModuleType(PACKAGE)
    package.__path__ = [os.path.dirname(path)]
    sys.modules[PACKAGE] = package
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location("{}.{}".format(PACKAGE, name), path)
    if spec is None or spec.loader is None:
        raise Failure(
            "INVALID_ARGUMENT", "model '{}': '{}' is not a Python file".format(task.model, script)
        )
    module = importlib.util.module_from_spec(spec)
    # By both names: relative imports want a package, and pickles know the script's own name.
    sys.modules[spec.name] = sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
