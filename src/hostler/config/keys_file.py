"""YAML of the keys file: its text as plain values, and its text with one key more. Pure.

What the values mean is the gateway's business (`gateway.parse_keys`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from hostler.core import Code, HostlerError

__all__ = ["NEW_KEYS_FILE", "parse_document", "with_key"]

NEW_KEYS_FILE: Final = """\
# Who may ask this hostler server, and for what; see docs/access.md. Keep it to yourself: chmod 600.
keys: []
policies:
  administrator:
    - {effect: allow, actions: ["*"], resources: ["*"]}
  invoke:
    - effect: allow
      actions:
        - "hostler:Infer"
        - "hostler:ReadModel"
        - "hostler:ReadServer"
        - "sagemaker:InvokeEndpoint*"
      resources: ["*"]
  read-only:
    - effect: allow
      actions: ["hostler:Read*", "sagemaker:Describe*", "sagemaker:List*"]
      resources: ["*"]
"""
"""What a file begins as."""

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc]
    """As safe_load, but a name that stands twice in one mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See yaml.SafeLoader."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' is set twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def parse_document(content: bytes, name: str) -> object:
    """YAML as plain values. Raises: INVALID_ARGUMENT naming file and line, without quoting it."""
    try:
        return yaml.load(content, Loader=_Loader)  # noqa: S506 - it is a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"{where}: not valid YAML: {error.problem or error.context}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise HostlerError(Code.INVALID_ARGUMENT, f"{name}: not valid YAML") from None


def with_key(text: str, entry: Mapping[str, object], name: str) -> str:
    """The same text with one more item at the head of `keys`; comments stay where they can.

    Raises: INVALID_ARGUMENT if the text is not that of a keys file.
    """
    before = parse_document(text.encode(), name)
    if not isinstance(before, dict) or not isinstance(before.get("keys"), list | None):
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"{name}: it has no list of keys; see docs/access.md"
        )
    wanted = {**before, "keys": [dict(entry), *(before.get("keys") or [])]}
    for changed in (_inserted(text, entry), _dumped(wanted)):
        if changed is not None and parse_document(changed.encode(), name) == wanted:
            return changed
    raise HostlerError(Code.INVALID_ARGUMENT, f"{name}: no key can be added to it by a program")


def _inserted(text: str, entry: Mapping[str, object]) -> str | None:
    """The text with the item written between its lines, or None where it has no place for one."""
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    for key, value in root.value:
        if key.value != "keys" or not isinstance(value, yaml.SequenceNode):
            continue
        lines = text.splitlines(keepends=True)
        if value.value and not value.flow_style:
            column, line = value.start_mark.column, value.start_mark.line
            lines[line:line] = _item(entry, column)
            return "".join(lines)
        if not value.value and value.start_mark.line == value.end_mark.line:
            line = value.start_mark.line
            head, tail = (
                lines[line][: value.start_mark.column],
                lines[line][value.end_mark.column :],
            )
            lines[line : line + 1] = [head.rstrip() + tail.rstrip() + "\n", *_item(entry, 2)]
            return "".join(lines)
    return None


def _item(entry: Mapping[str, object], column: int) -> list[str]:
    written = yaml.safe_dump([dict(entry)], sort_keys=False, width=1000)
    return [" " * column + line for line in written.splitlines(keepends=True)]


def _dumped(document: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, width=1000)
