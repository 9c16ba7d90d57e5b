"""Pairs in order; a key may be None, and may come more than once."""

from __future__ import annotations

from typing import Any

__all__ = ["PairList"]


class PairList:
    """`keys` and `values` of equal length; from both, from a list of pairs, or from a map."""

    def __init__(
        self,
        keys: list[Any] | None = None,
        values: list[Any] | None = None,
        pair_list: Any = None,
        pair_map: Any = None,
    ) -> None:
        if keys and values and len(keys) != len(values):
            raise ValueError("key value size mismatch.")
        pairs = list(pair_list or ()) or list((pair_map or {}).items())
        self.keys: list[Any] = keys if keys and values else [pair[0] for pair in pairs]
        self.values: list[Any] = values if keys and values else [pair[1] for pair in pairs]

    def add(
        self, key: Any = None, value: Any = None, index: int | None = None, pair: Any = None
    ) -> None:
        """Append a pair, or put it at `index`; a value of None is left out."""
        if index is not None and value is not None:
            self.keys.insert(index, key)
            self.values.insert(index, value)
        elif pair:
            self.keys.append(pair[0])
            self.values.append(pair[1])
        elif value is not None:
            self.keys.append(key)
            self.values.append(value)

    def add_all(self, other: PairList | None) -> None:
        """Append all pairs of another list."""
        if other:
            self.keys.extend(other.keys)
            self.values.extend(other.values)

    def size(self) -> int:
        """How many pairs there are."""
        return len(self.keys)

    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self.keys

    def get(self, key: Any) -> Any:
        """The first value with this key, or None."""
        return self.values[self.keys.index(key)] if key in self.keys else None

    def key_at(self, index: int) -> Any:
        """The key of a pair."""
        return self.keys[index]

    def value_at(self, index: int) -> Any:
        """The value of a pair."""
        return self.values[index]

    def get_keys(self) -> list[Any]:
        """All keys."""
        return self.keys

    def get_values(self) -> list[Any]:
        """All values."""
        return self.values
