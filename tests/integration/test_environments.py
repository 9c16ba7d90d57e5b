"""Environments of requirements.txt, with the real venv and pip, and no network."""

import asyncio
import json
import logging
import os
import signal
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from fakes.python_models import scale
from fakes.server import ServerProcess, wait_for
from fakes.wheels import make_wheel, numpy_wheel
from fakes.workers import Running, alive, python_spec, request

from hostler.core import Code, Environment, HostlerError, ModelSpec, SystemClock
from hostler.repository import Config, Environments, EnvironmentStore

GREETING = "./greeting-1.0-py3-none-any.whl\n"
USES_GREETING = """
    def execute(self, requests):
        import greeting, importlib.util
        assert sys.prefix != sys.base_prefix, sys.prefix
        assert importlib.util.find_spec("orjson") is None, "the server's own packages show"
        assert not any("hostler" in entry for entry in sys.path if entry != sys.prefix)
        value = np.array([len(greeting.TEXT)], np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", value)])]
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """A folder in which pip finds numpy."""
    folder = tmp_path_factory.mktemp("wheels")
    numpy_wheel(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("environments")


def environments_of(cache: Path, wheels: Path | None = None, **settings) -> Environments:
    where = ("--no-index", f"--find-links={wheels}") if wheels is not None else ()
    config = Config(environments_dir=str(cache), pip_arguments=where, **settings)
    return Environments(config, SystemClock(), {"HOME": str(cache)})


def spec_with(folder: Path, requirements: str, body: str = USES_GREETING) -> ModelSpec:
    spec = python_spec(folder, body)
    file = spec.file.parent / "requirements.txt"
    file.write_text(requirements)
    make_wheel(file.parent, "greeting", "1.0", {"greeting/__init__.py": "TEXT = 'hello'\n"})
    own = Environment("requirements", file, spec.directory)
    return ModelSpec(**{**{f: getattr(spec, f) for f in spec.__slots__}, "environment": own})


def built(caplog) -> int:
    return sum(record.message == "environment.built" for record in caplog.records)


async def test_two_models_of_two_servers_share_one_build(tmp_path, wheels, cache, caplog):
    caplog.set_level(logging.INFO, "hostler")
    specs = [
        spec_with(tmp_path / "one", GREETING),
        spec_with(tmp_path / "two", f"# the same\n{GREETING}"),
    ]
    (specs[0].file.parent / "json.py").write_text("raise SystemExit('a module of the package ran')")
    servers = [environments_of(cache, wheels) for _ in range(2)]
    steps: list[str] = []
    try:
        equipped = await asyncio.gather(
            *(server.equip(spec, steps.append) for server in servers for spec in specs)
        )
        assert len({spec.python for spec in equipped}) == 1
        assert built(caplog) == 1
        assert any("processing greeting-1.0" in step for step in steps)
        assert any("numpy" in step for step in steps)
        # In use, so nobody prunes it; and after that it may go.
        store = EnvironmentStore(cache)
        assert store.prune(0.0, SystemClock().wall()).removed == ()
    finally:
        for server in servers:
            server.close()
    (stored,) = store.list()
    assert stored.record is not None
    assert not stored.in_use
    assert stored.record.content[0].endswith("greeting-1.0-py3-none-any.whl")
    async with Running(equipped[-1]) as model:
        (answer,) = await model.ask(request(np.zeros(1, np.float32)))
    assert answer.outputs[0].data.tolist() == [5.0]
    # A server that starts later builds nothing.
    caplog.clear()
    later = environments_of(cache, wheels)
    assert (await later.equip(specs[0], steps.append)).python == equipped[0].python
    later.close()
    assert built(caplog) == 0


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        (f"{GREETING}no-such-package==9\n", ["'no-such-package==9'", "pip says: ERROR"]),
        ("a b\n", ["'a b'", "Invalid requirement"]),
    ],
)
async def test_a_requirement_that_fails_is_named(tmp_path, wheels, requirements, words):
    spec = spec_with(tmp_path / "m", requirements)
    environments = environments_of(tmp_path / "cache", wheels)
    with pytest.raises(HostlerError) as caught:
        await environments.equip(spec, print)
    environments.close()
    assert caught.value.code is Code.INVALID_ARGUMENT
    for word in ["model 'm'", str(spec.file.parent / "requirements.txt"), *words]:
        assert word in caught.value.message
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


# -- builds that do not end well: a Python that builds nothing and takes its time -------------


def slow_python(folder: Path) -> Path:
    """Stands for a Python whose venv never ends, and says which process it is."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nsleep 100 &\necho $$ $! > {folder}/pids.new\n"
                      f"mv {folder}/pids.new {folder}/pids\nwait\n")  # fmt: skip
    python.chmod(0o755)
    return python


def pids_of(folder: Path) -> list[int]:
    path = folder / "pids"
    wait_for(path.exists, 20.0, "the build to begin")
    return [int(word) for word in path.read_text().split()]


async def started(folder: Path) -> list[int]:
    return await asyncio.to_thread(pids_of, folder)


def nothing_is_left(cache: Path, pids: list[int]) -> None:
    wait_for(lambda: not any(alive(pid) for pid in pids), 10.0, "the build's processes to end")
    store = EnvironmentStore(cache)
    assert not [stored for stored in store.list() if stored.record is not None]


async def test_a_build_that_nobody_waits_for_any_more_is_ended(tmp_path):
    python = slow_python(tmp_path / "slow")
    environments = environments_of(tmp_path / "cache", environment_python=str(python))
    spec = spec_with(tmp_path / "m", GREETING)
    tasks = [asyncio.ensure_future(environments.equip(spec, lambda _: None)) for _ in range(2)]
    pids = await started(tmp_path / "slow")
    tasks[0].cancel()
    await asyncio.sleep(0.2)
    assert all(alive(pid) for pid in pids)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    nothing_is_left(tmp_path / "cache", pids)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


async def test_a_build_that_takes_too_long_is_ended_and_says_at_what(tmp_path):
    python = slow_python(tmp_path / "slow")
    environments = environments_of(
        tmp_path / "cache", environment_python=str(python), environment_timeout_s=1.0
    )
    with pytest.raises(HostlerError) as caught:
        await environments.equip(spec_with(tmp_path / "m", GREETING), lambda _: None)
    assert caught.value.code is Code.UNAVAILABLE
    assert "repository.environment_timeout_s, 1 s" in caught.value.message
    assert "creating a virtual environment" in caught.value.message
    nothing_is_left(tmp_path / "cache", pids_of(tmp_path / "slow"))


async def test_a_python_without_venv_is_named(tmp_path):
    environments = environments_of(tmp_path / "cache", environment_python="/bin/false")
    with pytest.raises(HostlerError, match="`/bin/false -m venv` failed; on Debian"):
        await environments.equip(spec_with(tmp_path / "m", GREETING), lambda _: None)


BUILDER = """
    import asyncio, pathlib, sys
    sys.path[:0] = {path!r}
    from test_environments import environments_of, spec_with, GREETING
    folder = pathlib.Path({folder!r})
    environments = environments_of(folder / "cache", environment_python=str(folder / "slow/python"))
    spec = spec_with(folder / "m", GREETING)
    asyncio.run(environments.equip(spec, print))
"""


async def test_a_server_that_is_killed_leaves_no_build_and_nothing_that_looks_ready(tmp_path):
    slow_python(tmp_path / "slow")
    here = Path(__file__).parent
    path = [str(here), str(here.parent), str(here.parents[1])]
    text = textwrap.dedent(BUILDER).format(path=path, folder=str(tmp_path))
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", text)
    try:
        pids = pids_of(tmp_path / "slow")
        (half,) = [stored for stored in EnvironmentStore(tmp_path / "cache").list()]
        assert (half.record, half.in_use) == (None, True)
        (tmp_path / "cache" / half.key / "bin").mkdir()
    finally:
        server.kill()
        await server.wait()
    # The one that writes is dead; what it had started is no matter of the folder's.
    wait_for(lambda: not alive(pids[0]), 10.0, "the build to end")
    os.kill(pids[1], signal.SIGKILL)
    nothing_is_left(tmp_path / "cache", pids)
    done = EnvironmentStore(tmp_path / "cache").prune(1e9, SystemClock().wall())
    assert done.removed == (half.key,)


def test_a_server_shows_what_it_waits_for_and_serves_the_others(tmp_path):
    python = slow_python(tmp_path / "slow")
    scale(tmp_path / "models", "ready", 3.0)
    scale(tmp_path / "models", "waiting", 2.0)
    (tmp_path / "models" / "waiting" / "requirements.txt").write_text("greeting")
    flags = [
        "--set",
        f"repository.environments_dir={tmp_path / 'cache'}",
        "--set",
        f"repository.environment_python={python}",
    ]
    with ServerProcess(tmp_path / "models", *flags, wait=False) as server:
        pids = pids_of(tmp_path / "slow")
        wait_for(lambda: server.events("model.loaded", model="ready"), 20.0, "the other model")
        status, answer = server.infer("ready", x=[[1.0, 2.0, 3.0, 4.0]])
        assert (status, answer["outputs"][0]["data"]) == (200, [3.0, 6.0, 9.0, 12.0])
        _, _, body = server.post("/v2/repository/index")
        (row,) = [row for row in json.loads(body) if row["name"] == "waiting"]
        assert row["state"] == "LOADING"
        assert row["reason"] == "creating a virtual environment"
        server.wait_event("environment.still_building", step="creating a virtual environment")
        server.stop()
    nothing_is_left(tmp_path / "cache", pids)
