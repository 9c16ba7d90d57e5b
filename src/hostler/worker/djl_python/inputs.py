"""What a handler is asked."""

from __future__ import annotations

import csv
import importlib
import io
import json
from typing import Any

import numpy as np

from .np_util import from_nd_list
from .pair_list import PairList

__all__ = ["Input"]

DATA = "data"
_BATCH = "batch_"
_INDEX_END = 9
"""Keys of a batch are `batch_000.name`."""


class Input:
    """Properties (headers of the request, or the model's options) and content by keys."""

    def __init__(self) -> None:
        self.function_name: str | None = None
        self.properties: dict[str, Any] = {}
        self.content = PairList()

    def __str__(self) -> str:
        lines = ["properties: {}".format(self.get_properties())]
        lines += ["{}: {}".format(key, self.get_data(key)) for key in self.content.get_keys()]
        return "\n".join(lines)

    def is_batch(self) -> bool:
        """Whether it holds several requests; here each comes by itself."""
        return "batch_size" in self.properties

    def get_batch_size(self) -> int:
        """How many requests it holds."""
        return int(self.properties.get("batch_size", "1"))

    def get_batches(self) -> list[Input]:
        """The requests that it holds, or itself."""
        if not self.is_batch():
            return [self]
        batch = [Input() for _ in range(self.get_batch_size())]
        for key, value in self.properties.items():
            if key.startswith(_BATCH) and key != "batch_size":
                index = int(key[len(_BATCH) : _INDEX_END])
                batch[index].properties[key[_INDEX_END + 1 :]] = value
        for key, value in zip(self.content.get_keys(), self.content.get_values()):  # noqa: B905
            index = int(key[len(_BATCH) : _INDEX_END])
            batch[index].content.add(key[_INDEX_END + 1 :], value)
        return batch

    def get_function_name(self) -> str | None:
        """The function that is to be called."""
        return self.function_name

    def get_properties(self) -> dict[str, Any]:
        """All properties."""
        return self.properties

    def get_content(self) -> PairList:
        """All content."""
        return self.content

    def get_property(self, key: str) -> Any:
        """The property of this name in any case, or None."""
        wanted = key.lower()
        return next((v for k, v in self.properties.items() if k.lower() == wanted), None)

    def contains_key(self, key: Any) -> bool:
        """Whether there is content with this key."""
        return self.content.get(key) is not None

    def get_data(self, key: Any = None) -> Any:
        """Content as its content type tells."""
        content_type = self.get_property("content-type") or ""
        if content_type == "tensor/ndlist":
            return self.get_as_numpy(key)
        if content_type == "tensor/npz":
            return self.get_as_npz(key)
        if content_type.startswith("application/json"):
            return self.get_as_json(key)
        if content_type.startswith("text/"):
            return self.get_as_string(key)
        if content_type.startswith("image/"):
            return self.get_as_image(key)
        return self.get_as_bytes(key)

    def get_as_bytes(self, key: Any = None) -> Any:
        """Content of this key; without one that of `data`, or the first. None if there is none."""
        if self.content.is_empty():
            return None
        if key:
            found = self.content.get(key)
            if found is None:
                raise KeyError("requested data for key:{} is not found!".format(key))
            return found
        found = self.content.get(DATA)
        return self.content.value_at(0) if found is None else found

    def get_as_string(self, key: Any = None) -> str:
        """Content as text."""
        text: str = self.get_as_bytes(key=key).decode("utf-8")
        return text

    def get_as_json(self, key: Any = None) -> Any:
        """Content read as JSON."""
        return json.loads(self.get_as_string(key=key))

    def get_as_image(self, key: Any = None) -> Any:
        """Content as an image of PIL, which the package must bring."""
        image = importlib.import_module("PIL.Image")
        return image.open(io.BytesIO(self.get_as_bytes(key=key)))

    def get_as_numpy(self, key: Any = None) -> list[Any]:
        """The arrays of an NDList."""
        return from_nd_list(self.get_as_bytes(key=key))

    def get_as_npz(self, key: Any = None) -> list[Any]:
        """The arrays of a .npz."""
        with np.load(io.BytesIO(self.get_as_bytes(key=key)), allow_pickle=False) as npz:
            return [npz[name] for name in npz.files]

    def get_as_csv(self, key: Any = None) -> list[dict[str, str]]:
        """The lines of CSV with a header, each as a dict."""
        return list(csv.DictReader(io.StringIO(self.get_as_string(key=key))))

    def is_empty(self) -> bool:
        """Whether there is no content: the call that initialises."""
        return self.content.is_empty()
