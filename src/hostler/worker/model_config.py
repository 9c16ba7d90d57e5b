"""The configuration object that `auto_complete_config` fills in.

Source: Triton's python_backend, `ModelConfig` of `triton_python_backend_utils`.
"""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["ModelConfig", "TritonModelException"]

INPUT_KEYS = ("name", "data_type", "dims", "optional")
OUTPUT_KEYS = ("name", "data_type", "dims")


class TritonModelException(Exception):
    """What the members of `pb_utils` raise."""

    def message(self) -> str:
        """The text."""
        return str(self)


class ModelConfig:
    """A model's configuration in Triton's JSON form, which a model may complete.

    Adding what is already there changes nothing; adding the same name with other properties is
    an error. The caller's dictionary is not changed.
    """

    def __init__(self, model_config: dict[str, Any]) -> None:
        self._config = copy.deepcopy(dict(model_config))

    def as_dict(self) -> dict[str, Any]:
        """The configuration."""
        return self._config

    def add_input(self, input: dict[str, Any]) -> None:
        """Add an input with `name`, `data_type`, `dims` and maybe `optional`."""
        self._add("input", dict(input), INPUT_KEYS)

    def add_output(self, output: dict[str, Any]) -> None:
        """Add an output with `name`, `data_type` and `dims`."""
        self._add("output", dict(output), OUTPUT_KEYS)

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Set the batch size limit; a configured one may only be lowered."""
        configured = int(self._config.get("max_batch_size", 0))
        if 0 < configured < max_batch_size:
            raise ValueError(
                "configuration specified max_batch_size {}, but in auto-complete-config function "
                "for model '{}' specified max_batch_size {}".format(
                    configured, self._config.get("name", ""), max_batch_size
                )
            )
        self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Turn dynamic batching on, unless another kind of scheduling is configured."""
        for other in ("sequence_batching", "ensemble_scheduling"):
            if other in self._config:
                raise ValueError(
                    "configuration specified scheduling choice {}, but auto-complete-config "
                    "function for model '{}' set dynamic_batching".format(
                        other, self._config.get("name", "")
                    )
                )
        self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, transaction_policy_dict: dict[str, Any]) -> None:
        """Set `{"decoupled": bool}`; a configured one must agree."""
        unknown = sorted(set(transaction_policy_dict) - {"decoupled"})
        if unknown:
            raise ValueError(
                "model transaction policy property in auto-complete-config function for model "
                "'{}' contains property other than 'decoupled': {}".format(
                    self._config.get("name", ""), ", ".join(unknown)
                )
            )
        wanted = bool(transaction_policy_dict.get("decoupled", False))
        policy = self._config.get("model_transaction_policy") or {}
        if "decoupled" in policy and bool(policy["decoupled"]) != wanted:
            raise ValueError(
                "trying to change decoupled property in auto-complete-config for model '{}' from "
                "{} to {}".format(self._config.get("name", ""), policy["decoupled"], wanted)
            )
        self._config["model_transaction_policy"] = {"decoupled": wanted}

    def _add(self, kind: str, entry: dict[str, Any], keys: tuple[str, ...]) -> None:
        self._check(kind, entry, keys)
        entries = self._config.setdefault(kind, [])
        for present in entries:
            if present["name"] != entry["name"]:
                continue
            if _properties(present) != _properties(entry):
                raise ValueError(
                    "model '{}', tensor '{}': the model expects {} but the model configuration "
                    "specifies {}".format(
                        self._config.get("name", ""),
                        entry["name"],
                        _shown(entry),
                        _shown(present),
                    )
                )
            if "optional" in entry:
                present["optional"] = bool(entry["optional"])
            return
        entries.append(entry)

    def _check(self, kind: str, entry: dict[str, Any], keys: tuple[str, ...]) -> None:
        model = self._config.get("name", "")
        for key in entry:
            if key not in keys:
                raise ValueError(
                    "{} in auto-complete-config function for model '{}' contains property '{}'; "
                    "allowed are {}".format(kind, model, key, ", ".join(keys))
                )
        for key in keys:
            if key != "optional" and key not in entry:
                raise ValueError(
                    "{} '{}' in auto-complete-config function for model '{}' is missing '{}' "
                    "property".format(kind, entry.get("name", ""), model, key)
                )


def _properties(entry: dict[str, Any]) -> tuple[str, list[int]]:
    """Datatype and dims; int64 fields are text in protobuf's own JSON, numbers in Triton's."""
    return str(entry["data_type"]), [int(dim) for dim in entry.get("dims", ())]


def _shown(entry: dict[str, Any]) -> str:
    data_type, dims = _properties(entry)
    return "{} {}".format(data_type, dims)
