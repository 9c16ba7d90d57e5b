"""kill -9 in the middle of writing: what was acknowledged is there, and nothing is half there.

The writer is a process that is forked again and again by one that has loaded everything, so that
each life costs milliseconds.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.databases import new_database

from hostler.storage import Config, Resources, open_resources

WRITER = """
import os, pathlib, sys
from hostler.storage import Config, Resource, open_resources
import hostler.storage.sql.opening

url, folder = sys.argv[1:]

def write(life):
    resources = open_resources(Config(database_url=url), pathlib.Path(folder))
    number = 0
    while True:
        name = f"{life}-{number}"
        one = Resource("model", name, f"arn:{name}", "new", 1.0, 1.0, {"pad": "x" * 3000, "n": 1})
        assert resources.add(one, {"a": name, "b": name})
        print("added", name, flush=True)
        new = Resource("model", name, one.arn, "put", 1.0, 2.0, {"pad": "y" * 3000, "n": 2})
        assert resources.put(new)
        print("put", name, flush=True)
        if number % 3 == 0:
            assert resources.remove("model", name)
            print("removed", name, flush=True)
        number += 1

for line in sys.stdin:  # a life for each line
    child = os.fork()
    if child == 0:
        try:
            write(line.strip())
        finally:
            os._exit(1)
    print("born", child, flush=True)
    os.waitpid(child, 0)
    print("dead", child, flush=True)
"""
LIVES = {"sqlite": 40, "postgresql": 12}


@pytest.fixture(params=sorted(LIVES))
def database(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A URL, "" for SQLite, and how many writers are killed."""
    if request.param == "sqlite":
        yield "", LIVES["sqlite"]
        return
    with new_database(f"hostler_{os.getpid()}_{random.randrange(10**9)}") as url:
        yield url, LIVES["postgresql"]


def test_acknowledged_writes_outlive_their_writer(
    database: tuple[str, int], tmp_path: Path
) -> None:
    url, lives = database
    chance = random.Random(5)
    acknowledged: dict[str, str] = {}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for life in range(lives):
            process.stdin.write(f"{life}\n")
            process.stdin.flush()
            word, child = process.stdout.readline().split()
            left = chance.randrange(1, 30)
            for line in process.stdout:
                word, name = line.split()
                if word == "born":  # the writer was quicker than its parent
                    child = name
                elif word == "dead":
                    break
                else:
                    acknowledged[name] = word
                left -= 1
                if left == 0:
                    os.kill(int(child), 9)
        process.stdin.close()
    resources = open_resources(Config(database_url=url), tmp_path)
    try:
        _check(resources, acknowledged, lives)
    finally:
        resources.close()


def _check(resources: Resources, acknowledged: dict[str, str], lives: int) -> None:
    found = {one.name: one for one in resources.all("model")}
    assert len(acknowledged) > lives
    for name, word in acknowledged.items():
        # The step after the last one that was acknowledged may have been done, too.
        if word == "removed":
            assert name not in found
        elif name not in found:
            assert word == "put"
            assert int(name.partition("-")[2]) % 3 == 0
        else:
            assert word == "added" or found[name].status == "put"
    for one in found.values():
        step = 2 if one.status == "put" else 1
        assert one.version == step
        assert one.document == {"pad": "xy"[step - 1] * 3000, "n": step}
        assert resources.tags(one.arn) == {"a": one.name, "b": one.name}
    # At most the last step of each life was done without being acknowledged.
    assert len(set(found) - set(acknowledged)) <= lives
