"""The JSON form of empty messages, in the schema's order; a test holds them to the schema.

Copy before changing: these are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = [
    "DYNAMIC_BATCHING",
    "INSTANCE_GROUP",
    "MODEL_CONFIG",
    "MODEL_INPUT",
    "MODEL_OUTPUT",
]

MODEL_CONFIG: Final[Mapping[str, object]] = {
    "name": "",
    "platform": "",
    "backend": "",
    "runtime": "",
    "max_batch_size": 0,
    "input": [],
    "output": [],
    "batch_input": [],
    "batch_output": [],
    "instance_group": [],
    "default_model_filename": "",
    "cc_model_filenames": {},
    "metric_tags": {},
    "parameters": {},
    "model_warmup": [],
}

MODEL_INPUT: Final[Mapping[str, object]] = {
    "name": "",
    "data_type": "TYPE_INVALID",
    "format": "FORMAT_NONE",
    "dims": [],
    "is_shape_tensor": False,
    "allow_ragged_batch": False,
    "optional": False,
    "is_non_linear_format_io": False,
}

MODEL_OUTPUT: Final[Mapping[str, object]] = {
    "name": "",
    "data_type": "TYPE_INVALID",
    "dims": [],
    "label_filename": "",
    "is_shape_tensor": False,
    "is_non_linear_format_io": False,
}

DYNAMIC_BATCHING: Final[Mapping[str, object]] = {
    "preferred_batch_size": [],
    "max_queue_delay_microseconds": 0,
    "preserve_ordering": False,
    "priority_levels": 0,
    "default_priority_level": 0,
    "priority_queue_policy": {},
}

INSTANCE_GROUP: Final[Mapping[str, object]] = {
    "name": "",
    "kind": "KIND_AUTO",
    "count": 0,
    "gpus": [],
    "secondary_devices": [],
    "profile": [],
    "passive": False,
    "host_policy": "",
}
