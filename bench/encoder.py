"""Does hostler keep what onnxruntime gives for a small BERT-shaped encoder of 128 tokens?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.harness import Effort
from bench.heavy import run_heavy
from bench.v2 import json_request


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """JSON bodies; see `heavy`."""
    return run_heavy("encoder", json_request, effort)
