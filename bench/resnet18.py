"""Does hostler keep what onnxruntime gives for a ResNet-18-shaped network with images of 602 kB?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.harness import Effort
from bench.heavy import run_heavy
from bench.v2 import binary_request


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """Binary V2 bodies; see `heavy`."""
    return run_heavy("resnet18", binary_request, effort)
