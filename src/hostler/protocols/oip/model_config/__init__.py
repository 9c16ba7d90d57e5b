"""Triton's ModelConfig on the wire: protobuf text, JSON and message forms.

JSON in Triton's form is a dict with the schema's field names, 64-bit integers as numbers, enums
by name and every default present. The templates (`MODEL_CONFIG` and so on) are that form of empty
messages, so that whoever has no text to parse does not pay for protobuf: it is imported (30 ms)
when a function of this door is first called.

Source: github.com/triton-inference-server/common, protobuf/model_config.proto (see proto/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hostler.protocols.oip.model_config.templates import (
    DYNAMIC_BATCHING,
    INSTANCE_GROUP,
    MODEL_CONFIG,
    MODEL_INPUT,
    MODEL_OUTPUT,
)

if TYPE_CHECKING:
    from hostler.protocols.oip.model_config.model_config_pb2 import ModelConfig

__all__ = [
    "DYNAMIC_BATCHING",
    "INSTANCE_GROUP",
    "MODEL_CONFIG",
    "MODEL_INPUT",
    "MODEL_OUTPUT",
    "parse_json",
    "parse_text",
    "states_max_batch_size",
    "to_json",
]


def parse_text(text: str, source: str) -> ModelConfig:
    """Read config.pbtxt.

    `source`: the file's name for messages. Raises: INVALID_ARGUMENT naming source, line and column
    for unknown fields, wrong values and syntax errors.
    """
    from hostler.protocols.oip.model_config import forms  # noqa: PLC0415 - protobuf is lazy

    return forms.parse_text(text, source)


def states_max_batch_size(text: str, source: str) -> bool:
    """Whether the text sets `max_batch_size`, be it to 0, which the message cannot tell."""
    from hostler.protocols.oip.model_config import forms  # noqa: PLC0415 - protobuf is lazy

    return forms.states_max_batch_size(text, source)


def parse_json(config: Mapping[str, object] | str, source: str = "model config") -> ModelConfig:
    """Read the JSON form, as text or already as a dict; 64-bit integers may be strings.

    Raises: INVALID_ARGUMENT naming source and field.
    """
    from hostler.protocols.oip.model_config import forms  # noqa: PLC0415 - protobuf is lazy

    return forms.parse_json(config, source)


def to_json(config: ModelConfig) -> dict[str, object]:
    """Triton's JSON form of a message; the caller owns the dict."""
    from hostler.protocols.oip.model_config import forms  # noqa: PLC0415 - protobuf is lazy

    return forms.to_json(config)
