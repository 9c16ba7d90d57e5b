"""`hostler environments`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Final

import typer

from hostler.cli.failures import Misuse
from hostler.cli.options import with_settings
from hostler.cli.output import Column, print_json, print_table, print_text
from hostler.config import Resolved, Settings, format_bytes
from hostler.core import SystemClock
from hostler.repository import EnvironmentStore, StoredEnvironment

__all__ = ["command"]

_KEY_CHARS: Final = 12
_CONTENT_CHARS_MAX: Final = 100
_DAY_S: Final = 86400.0

_COLUMNS = (
    Column("ENVIRONMENT"),
    Column("KIND"),
    Column("PYTHON"),
    Column("SIZE", number=True),
    Column("UNUSED DAYS", number=True),
    Column("IN USE"),
    Column("CONTENT", wide=True),
)


class Action(enum.StrEnum):
    """What to do with them."""

    LIST = "list"
    PRUNE = "prune"


@with_settings()
def command(
    resolved: Resolved[Settings],
    action: Annotated[
        Action, typer.Argument(help="list shows them; prune removes those that nobody uses.")
    ] = Action.LIST,
    unused_days: Annotated[
        float | None,
        typer.Option("--unused-days", min=0, metavar="N", help="Prune those unused for N days."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Prune all but those in use by a running server.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """List the Python environments that were built for models, or remove old ones.

    [bold]hostler environments[/bold]

    [bold]hostler environments prune --unused-days 30[/bold]

    A model whose environment was removed gets it built again when it is next loaded.
    """
    store = EnvironmentStore(Path(resolved.settings.repository.environments_dir))
    now = SystemClock().wall()
    if action is Action.PRUNE:
        return _prune(store, 0.0 if everything else unused_days, now, as_json)
    if everything or unused_days is not None:
        raise Misuse("--all and --unused-days are for `hostler environments prune`")
    found = store.list()
    if as_json:
        print_json([_as_dict(stored) for stored in found])
    else:
        rows = [_row(stored, now) for stored in found]
        print_table(_COLUMNS, rows, empty=f"No environments in {store.folder}.")
    return 0


def _prune(store: EnvironmentStore, unused: float | None, now: float, as_json: bool) -> int:
    if unused is None:
        raise Misuse("say what to prune: --unused-days N, or --all")
    done = store.prune(unused * _DAY_S, now)
    if as_json:
        fields = ("removed", "kept", "freed_bytes")
        print_json({field: getattr(done, field) for field in fields})
    else:
        kept = f"; {len(done.kept)} in use were kept" if done.kept else ""
        freed = format_bytes(done.freed_bytes)
        print_text(f"removed {len(done.removed)} environments, {freed}{kept}")
    return 0


def _row(stored: StoredEnvironment, now: float) -> tuple[str, ...]:
    record = stored.record
    days = f"{max(0.0, now - stored.last_used) / _DAY_S:.1f}"
    in_use = "yes" if stored.in_use else "no"
    key = stored.key[:_KEY_CHARS]
    if record is None:
        return (key, "-", "-", "-", days, in_use, "unfinished; prune removes it")
    content = ", ".join(record.content) or "nothing but numpy"
    if len(content) > _CONTENT_CHARS_MAX:
        content = content[: _CONTENT_CHARS_MAX - 3] + "..."
    size = format_bytes(record.size_bytes)
    return (key, record.kind, record.python, size, days, in_use, content)


def _as_dict(stored: StoredEnvironment) -> dict[str, object]:
    record = stored.record
    return {
        "environment": stored.key,
        "kind": record.kind if record else None,
        "python": record.python if record else None,
        "size_bytes": record.size_bytes if record else None,
        "last_used": stored.last_used,
        "in_use": stored.in_use,
        "content": list(record.content) if record else [],
    }
