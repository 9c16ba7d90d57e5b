"""Servers that nobody asks for AWS's control plane do not pay for it."""

from __future__ import annotations

import subprocess
import sys

DOORS = ("hostler.control", "hostler.protocols.sagemaker", "hostler.control.operations")
HEAVY = ("botocore", "boto3", "sqlalchemy", "alembic", "obstore")


def test_the_doors_load_nothing_heavy() -> None:
    code = (
        f"import sys, {', '.join(DOORS)}\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
