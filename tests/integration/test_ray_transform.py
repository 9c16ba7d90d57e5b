"""A transform job on a Ray cluster of three nodes gives the bytes of one on this machine."""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
import pytest
from fakes.onnx_models import affine
from fakes.s3_server import s3_server

from hostler import app
from hostler.config import Settings
from hostler.core import HostlerError
from hostler.jobs import Assemble, Input, Output, Plan, Progress, Split, Strategy, Summary
from hostler.placement import connect_ray, posts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),  # Ray's own are not ours to mend
]

OBJECTS = 60
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster of three nodes, each a process group on this machine."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**NODE)
    yield str(cluster.address)
    cluster.shutdown()


@dataclass
class Site:
    """A folder of rows and a model. `lines`: what was told."""

    folder: Path
    lines: list[str] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)

    @property
    def model(self) -> Path:
        return self.folder / "affine"

    def run(
        self, output: str, cluster: app.Cluster | None = None, model: str = "", place: str = ""
    ) -> Summary:
        # Two objects at a time and a request a row, so that there is a middle to kill an actor in.
        settings = Settings()
        jobs = msgspec.structs.replace(settings.jobs, objects_max=2)
        place = place or f"file://{self.folder}"
        plan = Plan(
            name="job",
            input=Input(url=f"{place}/in/", content_type="text/csv"),
            output=Output(url=f"{place}/{output}/", assemble=Assemble.LINE),
            split=Split.LINE,
            strategy=Strategy.SINGLE,
            concurrency=1,
        )
        job = app.Job(plan, app.ModelAsk(model=model or str(self.model)), cluster=cluster)
        cache = str(self.folder / "cache")
        repository = msgspec.structs.replace(settings.repository, archive_cache_dir=cache)
        settings = msgspec.structs.replace(settings, jobs=jobs, repository=repository)
        try:
            return app.transform(settings, job, self.progress, self.lines.append)
        finally:
            self.progress = Progress()

    def outputs(self, output: str) -> dict[str, bytes]:
        files = sorted((self.folder / output).iterdir())
        return {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("ray")
    affine(folder / "affine/1/model.onnx", 2.0, 1.0)
    (folder / "in").mkdir()
    rows = random.Random(5)
    for index in range(OBJECTS):
        lines = [",".join(f"{rows.random():.3f}" for _ in range(4)) for _ in range(150)]
        (folder / f"in/{index:02}.csv").write_text("\n".join(lines) + "\n")
    site = Site(folder)
    assert site.run("expected").objects == OBJECTS
    return site


def actors() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::_Host"):
            found.append(process)
    return found


def in_the_middle(progress: Progress, act: Callable[[], None]) -> threading.Thread:
    """Have something done once some objects are."""

    def wait() -> None:
        deadline = time.monotonic() + 120
        while progress.objects_done < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_every_node_does_some_and_a_killed_actor_changes_nothing(
    address: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hostler.placement.ray import RayActor

    calls: Counter[int] = Counter()
    call = RayActor.call

    async def counted(actor: RayActor, payload: bytes) -> bytes:
        answer = await call(actor, payload)
        calls[id(actor)] += 1
        return answer

    monkeypatch.setattr(RayActor, "call", counted)
    progress, done = site.progress, []

    def kill() -> None:
        os.kill(actors()[0].pid, signal.SIGKILL)
        done.append(progress.objects_done)

    killer = in_the_middle(progress, kill)
    summary = site.run("killed", app.Cluster(address=address))
    killer.join()

    assert summary.failure == ""
    assert (summary.objects, summary.records) == (OBJECTS, OBJECTS * 150)
    assert 6 <= done[0] < OBJECTS, "it was killed after the end, which proves nothing"
    assert len(calls) == 3
    assert min(calls.values()) > 0
    assert site.outputs("killed") == site.outputs("expected")
    assert not [process for process in actors() if process.is_running()]
    assert any("3 nodes, 3 CPUs" in line for line in site.lines)


def test_a_stopped_job_leaves_nothing_partial_and_goes_on(address: str, site: Site) -> None:
    stopper = in_the_middle(site.progress, lambda: os.kill(os.getpid(), signal.SIGINT))
    first = site.run("stopped", app.Cluster(address=address))
    stopper.join()
    assert first.stopped
    assert 6 <= first.objects < OBJECTS
    expected = site.outputs("expected")
    there = {name: body for name, body in site.outputs("stopped").items() if name.endswith(".out")}
    assert there.items() <= expected.items()
    assert len(there) >= first.objects

    second = site.run("stopped", app.Cluster(address=address, workers=2, worker_cpus=0.5))
    assert second.failure == ""
    assert second.before >= first.objects
    assert site.outputs("stopped") == expected


def test_actors_read_and_write_a_store_with_the_drivers_credentials(
    address: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three actors share one cache of fetched models, too."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(site.model, "affine")
    with s3_server(["bucket"]) as s3:
        s3.put("bucket", "model.tar.gz", archive.getvalue())
        for file in sorted((site.folder / "in").iterdir())[:20]:
            s3.put("bucket", f"in/{file.name}", file.read_bytes())
        # Of this process: the nodes of the cluster were started without them.
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        summary = site.run(
            "out", app.Cluster(address=address), "s3://bucket/model.tar.gz", "s3://bucket"
        )
        assert summary.failure == ""
        expected = site.outputs("expected")
        written = [key for key in s3.keys("bucket", "out/") if key.endswith(".out")]
        assert len(written) == 20
        for key in written:
            assert s3.get("bucket", key) == expected[key.removeprefix("out/")]


def test_what_cannot_be_done_is_said(address: str, site: Site) -> None:
    too_large = app.Cluster(address=address, workers=2, worker_cpus=64, place_timeout_s=6)
    with pytest.raises(HostlerError, match="asked for 2 actors of 64 CPUs; the cluster has 3 nod"):
        site.run("nothing", too_large)
    with pytest.raises(HostlerError, match="missing"):
        site.run("nothing", app.Cluster(address=address, workers=1), model="/missing/model")


def test_a_fault_of_our_own_in_an_actor_is_told(address: str) -> None:
    async def run() -> None:
        cluster = connect_ray(address, debug=False, report=lambda _: None)
        [actor] = cluster.actors([(posts(cluster.nodes(), 1, 1)[0], "hostler.nowhere:node", b"")])
        try:
            with pytest.raises(HostlerError, match=r"No module named .hostler\.nowhere"):
                await actor.load()
        finally:
            actor.kill()
            cluster.close()

    asyncio.run(run())
