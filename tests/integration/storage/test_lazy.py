"""What a server does not use it does not load; only a fresh interpreter can tell."""

import subprocess
import sys

import pytest

HEAVY = ("sqlalchemy", "alembic", "psycopg", "obstore")
SCRIPT = """
import pathlib, sys
import hostler.config
from hostler.storage import Config, Storage, open_resources
{}
print(*[name for name in {!r} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("act", "loaded"),
    [
        ("storage = Storage(Config(), {}); storage.open('file:///srv/a')", []),
        ("Storage(Config(), {}).open('s3://models/a')", ["obstore"]),
    ],
)
def test_object_stores_are_loaded_when_they_are_used(tmp_path, act, loaded):
    assert modules_after(act, tmp_path) == loaded


def test_migrations_are_loaded_when_they_are_run(tmp_path):
    act = "open_resources(Config(), pathlib.Path(sys.argv[1])).close()"
    assert modules_after(act, tmp_path) == ["sqlalchemy", "alembic"]
    assert modules_after(act, tmp_path) == ["sqlalchemy"]


def modules_after(act, folder):
    script = SCRIPT.format(act, HEAVY)
    finished = subprocess.run(
        [sys.executable, "-c", script, str(folder)], check=True, capture_output=True, text=True
    )
    return finished.stdout.split()
