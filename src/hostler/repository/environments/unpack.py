"""Unpacks an archive of an environment: `python -I unpack.py <archive> <folder> <limits>`.

Standard library alone, in a process of its own: it may take minutes, and a crafted archive can
cost this process alone. How it is done, and what is refused, is `repository/archives`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hostler.repository.archives import Limits

__all__ = ["FORMATS", "archives", "is_record", "unpack"]

MEMORY_BYTES_MAX = 2 << 30
SAY_EVERY = 5000
RECORD = "hostler-environment.json"
"""What the cache writes last (`store`); a packed one would make half an environment count."""
FORMATS = frozenset({"gzip", "bzip2", "xz"})


def archives() -> Any:
    """The room that unpacks, by its place: this interpreter knows no package of that name."""
    name = "hostler_archives"
    if name not in sys.modules:
        above = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        place = os.path.join(above, "archives", "__init__.py")
        spec = importlib.util.spec_from_file_location(name, place)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def is_record(path: str) -> bool:
    """Whether a member would be taken for the cache's own record."""
    return path.partition("/")[0].startswith(RECORD)


def unpack(archive: str, folder: str, limits: Limits) -> int:
    """Write all members below `folder`, which exists and is empty; returns how many.

    Raises: Refused, OSError; what was written so far stays.
    """
    files = 0
    steps = archives().unpack(archive, folder, limits, skip=is_record, formats=FORMATS)
    for progress in steps:
        if progress.files // SAY_EVERY > files // SAY_EVERY:
            sys.stdout.write(f"unpacked {progress.files} files\n")
            sys.stdout.flush()
        files = progress.files
    return files


def main() -> int:
    """Exit code 3 with a line on stdout where the archive is refused."""
    archive, folder, limits = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    try:
        count = unpack(archive, folder, archives().Limits(**json.loads(limits)))
    except archives().Refused as error:
        sys.stdout.write(f"{error}\n")
        return 3
    except OSError as error:
        sys.stdout.write(f"{error.filename or folder}: {error.strerror}\n")
        return 3
    sys.stdout.write(f"unpacked {count} files\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
