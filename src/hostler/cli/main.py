"""The `hostler` command: finds the subcommand, loads only that one, and words its failures."""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import typer

from hostler.cli.failures import Misuse
from hostler.core import HostlerError

__all__ = ["COMMANDS", "main"]

EXIT_FAILURE: Final = 1
EXIT_MISUSE: Final = 2
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it

_ABOUT: Final = """\
Serve many machine-learning models behind one address.

Serve a folder of models:  [bold]hostler serve ./models[/bold]

See them:  [bold]hostler models[/bold]

Ask one:  [bold]hostler infer digits --input '[[0, 0, 5, 13]]'[/bold]

Try a folder without opening a port:  [bold]hostler check ./models[/bold]
"""

_EXPLAINED: Final = {
    errno.EADDRINUSE: "the address is in use; stop the other program or choose another --port",
    errno.EADDRNOTAVAIL: "this machine has no such address; see --host",
    errno.EACCES: "permission denied",
}


@dataclass(frozen=True, slots=True)
class Subcommand:
    """`module`: has the function `command`, imported only when it is asked for."""

    module: str
    summary: str
    panel: str


COMMANDS: Final = {
    "serve": Subcommand("hostler.cli.serve", "Serve every model in the given folders.", "Server"),
    "check": Subcommand(
        "hostler.cli.check", "Load and warm every model without a socket; say which fail.", "Server"
    ),
    "profile": Subcommand(
        "hostler.cli.profile", "Find the settings that suit a model and this machine.", "Server"
    ),
    "transform": Subcommand(
        "hostler.cli.transform", "Run a model over every object of a folder or bucket.", "Server"
    ),
    "config": Subcommand(
        "hostler.cli.config", "Print every setting with its value, unit and source.", "Server"
    ),
    "environments": Subcommand(
        "hostler.cli.environments", "List or prune the Python environments of models.", "Server"
    ),
    "keys": Subcommand(
        "hostler.cli.keys", "Make, list and check keys: who may ask the server what.", "Server"
    ),
    "models": Subcommand("hostler.cli.models", "List the models of a running server.", "Client"),
    "endpoints": Subcommand(
        "hostler.cli.endpoints", "List the SageMaker endpoints of a running server.", "Client"
    ),
    "infer": Subcommand("hostler.cli.infer", "Ask a model of a running server.", "Client"),
    "version": Subcommand(
        "hostler.cli.version", "Print hostler's version; also --version.", "Other"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code: 0, 1 for failures, 2 for misuse.

    A user's mistake is one line on stderr; a traceback means a bug of ours.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if words[0] == "--version":
        words[0] = "version"
    try:
        code = _build(words)(words, prog_name="hostler", standalone_mode=False)
    except Misuse as error:
        return _fail(f"{error}", EXIT_MISUSE)
    except HostlerError as error:
        return _fail(error.message, EXIT_FAILURE)
    except _USAGE_ERROR as error:
        return _fail(_usage(error), EXIT_MISUSE)
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `hostler models | head`: nobody reads on, which is no failure
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it at exit
        return EXIT_FAILURE
    except OSError as error:
        if error.errno not in _EXPLAINED:
            raise
        return _fail(f"{_EXPLAINED[error.errno]} ({error})", EXIT_FAILURE)
    return code if isinstance(code, int) else 0


# typer exports no name for the base of its errors.
_USAGE_ERROR: Final = cast(type[Exception], typer.BadParameter.__mro__[1])


def _build(words: Sequence[str]) -> typer.Typer:
    """The whole command, of which only the subcommand in `words` is real; the others have help."""
    app = typer.Typer(
        help=_ABOUT,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, entry in COMMANDS.items():
        function: Callable[..., object] = _placeholder
        text = entry.summary
        if name == chosen:
            function = importlib.import_module(entry.module).command
            text = _paragraphs(function.__doc__ or text)
        app.command(name, help=text, short_help=entry.summary, rich_help_panel=entry.panel)(
            function
        )
    return app


def _paragraphs(text: str) -> str:
    """A docstring whose paragraphs are a line each, for help to fold to the terminal's width."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))


def _placeholder() -> None:
    """Stands in the list of commands for one that this command line does not run."""


def _usage(error: BaseException) -> str:
    """One line for what typer has to say of a command line."""
    described = getattr(error, "format_message", error.__str__)().replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "hostler")
    return f"{' '.join(described.split()).rstrip('.')}; see `{path} --help`"


def _fail(message: str, code: int) -> int:
    print(f"hostler: error: {message}", file=sys.stderr)
    return code
