"""`hostler keys`."""

from __future__ import annotations

import contextlib
import enum
import math
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from hostler.cli.arguments import takes
from hostler.cli.failures import Misuse
from hostler.cli.options import with_settings
from hostler.cli.output import Column, print_json, print_table, print_text
from hostler.config import NEW_KEYS_FILE, Resolved, Settings, parse_document, with_key
from hostler.control import served_actions
from hostler.core import Code, HostlerError, SystemClock
from hostler.gateway import Key, Keys, doubts, doubts_of, new_key, read_keys

__all__ = ["command"]

_FILE: Final = "keys.yaml"
_DENIED: Final = 1
_POLICY_NAME: Final = re.compile(r"[\w.@:/+=,\-]{1,128}")

_COLUMNS = (
    Column("KEY"),
    Column("PRINCIPAL"),
    Column("POLICIES", wide=True),
    Column("PROVES BY"),
    Column("EXPIRES"),
    Column("STATE"),
)


class Action(enum.StrEnum):
    """What to do."""

    CREATE = "create"
    LIST = "list"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line."""

    action: Annotated[
        Action,
        typer.Argument(
            help="create makes a key; list shows them all; check reads the file, and says what "
            "somebody may do."
        ),
    ]
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE]", help="create: for whom. list, check: the keys file."),
    ] = None
    file: Annotated[
        Path | None,
        typer.Option(
            help="The keys file. \\[default: gateway.keys_file, else keys.yaml]",
            metavar="FILE",
            show_default=False,
        ),
    ] = None
    policy: Annotated[
        list[str] | None,
        typer.Option(help="create: a policy of the file that the key gets. Repeatable."),
    ] = None
    principal: Annotated[
        str | None, typer.Option("--as", help="check: a principal, or a key's id.", metavar="NAME")
    ] = None
    asked: Annotated[
        str | None,
        typer.Option(
            "--action",
            help="check: as sagemaker:InvokeEndpoint or hostler:Infer.",
            metavar="ACTION",
        ),
    ] = None
    resource: Annotated[
        str | None,
        typer.Option(help="check: an ARN, model/NAME or server.", metavar="RESOURCE"),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False


@with_settings()
@takes(Arguments, after="resolved")
def command(resolved: Resolved[Settings], given: Arguments) -> int:
    """Make, list and check keys: who may ask the server what.

    [bold]hostler keys create alice --policy invoke[/bold]

    [bold]hostler serve ./models --keys keys.yaml[/bold]

    [bold]hostler keys check keys.yaml --as alice --action hostler:Infer --resource model/a[/bold]

    A new key is told once: an id and a secret for AWS's clients, a bearer token for all others. A
    running server reads the file again when it changes.
    """
    set_file = resolved.settings.gateway.keys_file
    if given.action is Action.CREATE:
        return _create(given, given.file or Path(set_file or _FILE))
    file = given.file or Path(given.name or set_file or _FILE)
    keys, warnings = read_keys(file, parse_document)
    if given.action is Action.LIST:
        return _list(keys, given.as_json, file)
    return _check(keys, warnings, given, file)


def _create(given: Arguments, file: Path) -> int:
    if not given.name:
        raise Misuse("say for whom, as in `hostler keys create alice --policy invoke`")
    exists = file.exists()
    text = file.read_text() if exists else NEW_KEYS_FILE
    _check_policies(given.policy or [], text, file)
    made = new_key(given.name, given.policy or [])
    _replace(file.resolve(), with_key(text, made.entry, str(file)))
    said = {
        "principal": given.name,
        "access_key_id": made.id,
        "secret_access_key": made.secret,
        "bearer_token": made.token,
        "file": str(file),
    }
    if given.as_json:
        print_json(said)
        return 0
    print_text(
        f"AWS_ACCESS_KEY_ID={made.id}\n"
        f"AWS_SECRET_ACCESS_KEY={made.secret}\n"
        f"HOSTLER_TOKEN={made.token}"
    )
    what = f"with {', '.join(given.policy)}" if given.policy else "that may do nothing yet"
    typer.echo(
        f"{file}: a key for {given.name} {what}. The token is not kept: note it now.", err=True
    )
    return 0


def _check_policies(wanted: Sequence[str], text: str, file: Path) -> None:
    """Refuse policies that the file, which may be about to be begun, does not have."""
    document = parse_document(text.encode(), str(file))
    policies = document.get("policies") if isinstance(document, dict) else None
    there = list(policies) if isinstance(policies, dict) else []
    known = ", ".join(str(name) for name in there[:10]) or "none"
    for name in wanted:
        if not _POLICY_NAME.fullmatch(name):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"'{name}' is no name of a policy (letters, digits and _.@:/+=,- up to 128): name "
                f"one that {file} has: {known}",
            )
        if name not in there:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"{file}: there is no policy '{name}' yet, only {known}; make the key without "
                "--policy, then add the policy to the file",
            )


def _replace(file: Path, text: str) -> None:
    """Write the file whole, if the server would take it.

    It is for whoever may read the one before, or else for its owner alone.
    """
    folder = file.absolute().parent
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=folder, prefix=f".{file.name}.", delete=False
        ) as f:
            f.write(text)  # mode 0600, as tempfile makes them
            f.flush()
            with contextlib.suppress(FileNotFoundError, PermissionError):
                before = file.stat()
                os.fchown(f.fileno(), before.st_uid, before.st_gid)
                os.fchmod(f.fileno(), before.st_mode & 0o640)
            os.fsync(f.fileno())
    except OSError as error:
        raise HostlerError(
            Code.PERMISSION_DENIED, f"cannot write {file}: {error.strerror}"
        ) from None
    fresh = Path(f.name)
    try:
        read_keys(fresh, lambda content, _: parse_document(content, str(file)))
        fresh.replace(file)
    except HostlerError as error:
        raise HostlerError(error.code, error.message.replace(str(fresh), str(file))) from None
    finally:
        fresh.unlink(missing_ok=True)


def _list(keys: Keys, as_json: bool, file: Path) -> int:
    rows = [_row(keys, key) for key in keys.by_id.values()]
    if as_json:
        names = [column.title.lower().replace(" ", "_") for column in _COLUMNS]
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(_COLUMNS, rows, empty=f"{file} has no keys; `hostler keys create NAME`.")
    return 0


def _row(keys: Keys, key: Key) -> tuple[str, ...]:
    tokens = sum(other is key for other in keys.by_token.values())
    proofs = ["sigv4"] if key.secret else []
    proofs += [f"{tokens} token{'s' if tokens > 1 else ''}"] if tokens else []
    proofs += ["certificate"] if key in keys.by_certificate.values() else []
    expires = "never"
    if math.isfinite(key.expires):
        expires = datetime.fromtimestamp(key.expires, UTC).isoformat(timespec="seconds")
    reason = key.refusal(SystemClock().wall())
    state = "in force" if reason is None else "disabled" if key.disabled else "expired"
    policies = ", ".join(key.principal.policies) or "-"
    return key.id, key.principal.name, policies, ", ".join(proofs), expires, state


def _check(keys: Keys, warnings: Sequence[str], given: Arguments, file: Path) -> int:
    warnings = [*warnings, *doubts(keys.statements, served_actions())]
    if given.asked and given.resource:
        warnings += doubts_of(given.asked, given.resource, served_actions())
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    asked = (given.principal, given.asked, given.resource)
    if not any(asked):
        count = len(keys.by_id)
        text = f"{count} key{'' if count == 1 else 's'}"
        doubtful = "read, with the warnings above" if warnings else "all of them make sense"
        print_text(f"{file}: {text}, {doubtful if count != 1 or warnings else 'it makes sense'}")
        return 0
    if given.principal is None or given.asked is None or given.resource is None:
        raise Misuse("--as, --action and --resource go together")
    who = given.principal
    found = [key for key in keys.by_id.values() if who in (key.id, key.principal.name)]
    if not found:
        raise HostlerError(Code.NOT_FOUND, f"{file}: no key is '{who}' or that of a '{who}'")
    allowed = False
    answers = []
    for key in found:
        decision = key.principal.decide(given.asked, given.resource)
        refusal = key.refusal(SystemClock().wall())
        may = decision.allowed and refusal is None
        allowed = allowed or may
        answers.append({"key": key.id, "allowed": may, "reason": refusal or decision.reason})
    if given.as_json:
        print_json(answers)
    else:
        for answer in answers:
            said = "allowed" if answer["allowed"] else "refused"
            print_text(f"{said}: {who} with key {answer['key']}: {answer['reason']}")
    return 0 if allowed else _DENIED
