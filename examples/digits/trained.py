"""Says whether a folder holds what the trainer would write now, so that it trains only once."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path

MARK = "complete.json"
SOURCES = ("train.py", "train_torch.py", "model.py")
HERE = Path(__file__).resolve().parent


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not imported to find out."""
    return importlib.util.find_spec("torch") is not None


def identity() -> dict[str, object]:
    """What the models are made from: the trainer's source and the versions that it runs with."""
    sources = b"".join((HERE / name).read_bytes() for name in SOURCES)
    return {
        "sources": hashlib.sha256(sources).hexdigest(),
        "python": list(sys.version_info[:2]),
        "scikit-learn": version("scikit-learn"),
        "torch": version("torch") if has_torch() else None,
    }


def is_complete(folder: Path) -> bool:
    """Whether the mark in the folder fits, and every file that it names is there."""
    try:
        mark = json.loads((folder / MARK).read_text())
    except (OSError, ValueError):
        return False
    files = mark.pop("files", [])
    return mark == identity() and all((folder / name).is_file() for name in files)


def mark_complete(folder: Path) -> None:
    """Write the mark, last of all."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    (folder / MARK).write_text(json.dumps({**identity(), "files": files}, indent=2) + "\n")
