"""Packages on disk for tests: files by path, contents that nobody opens."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

STUB = b"a model that is never opened"

CONFIG = """
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 64 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
"""


def write_package(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write text or bytes by relative path; a path that ends in a slash becomes a folder."""
    for path, content in files.items():
        target = folder / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        text = isinstance(content, str)
        target.write_bytes(textwrap.dedent(content).encode() if text else content)
    return folder
