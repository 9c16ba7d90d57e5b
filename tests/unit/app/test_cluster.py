"""What a driver tells its actors, and what it makes of what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hostler.app.cluster import Cluster, ClusterJob, node, of_one_machine, settings_for_node
from hostler.app.models import ModelAsk
from hostler.config import Settings
from hostler.core import HostlerError
from hostler.jobs import Input, Output, Plan

PLAN = Plan(name="j", input=Input(url="s3://b/in/"), output=Output(url="file:///out/"))


def job(ask: ModelAsk, settings: Settings | None = None) -> ClusterJob:
    return ClusterJob(settings or Settings(), PLAN, ask, Cluster(), lambda _: None)


def given(settings: Settings, **rooms: dict[str, Any]) -> Settings:
    changed = {
        room: msgspec.structs.replace(getattr(settings, room), **values)
        for room, values in rooms.items()
    }
    return msgspec.structs.replace(settings, **changed)


def test_a_set_up_arrives_as_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.chdir("/")
    settings = given(Settings(), storage={"s3_region": "eu-north-1", "stall_timeout_s": 1.5})
    sent = job(ModelAsk(model="models/m", environment={"A": "1"}), settings)._setup(2.0)
    there = node(sent)._setup
    assert there.plan == PLAN
    assert there.ask == ModelAsk(model="/models/m", environment={"A": "1"})
    assert there.settings == settings_for_node(settings, 2.0)
    assert there.variables["AWS_SECRET_ACCESS_KEY"] == "s3cret"


def test_a_node_is_told_nothing_that_only_a_server_needs() -> None:
    settings = given(
        Settings(),
        storage={"database_url": "postgresql://u:p@h/d", "s3_region": "eu-north-1"},
        gateway={"keys_file": Path("/etc/keys")},
        telemetry={"log_file": "/var/log/hostler"},
    )
    there = settings_for_node(settings, 3.5)
    assert there.storage == given(settings, storage={"database_url": ""}).storage
    assert there.gateway == Settings().gateway
    assert there.telemetry.log_file == Settings().telemetry.log_file
    assert there.placement.compute_threads == 3
    assert settings_for_node(settings, 0.25).placement.compute_threads == 1


@pytest.mark.parametrize(
    ("ask", "model", "repository", "places"),
    [
        (ModelAsk(model="m"), "/w/m", (), ["/w/m", "file:///out/"]),
        (ModelAsk(model="m", repository=("r",)), "m", ("/w/r",), ["/w/r", "file:///out/"]),
        (ModelAsk(model="s3://b/m.tar.gz"), "s3://b/m.tar.gz", (), ["file:///out/"]),
        (ModelAsk(model="file:///m"), "file:///m", (), ["file:///out/", "file:///m"]),
    ],
)
def test_paths_are_whole_and_known(
    ask: ModelAsk,
    model: str,
    repository: tuple[str, ...],
    places: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.getcwd", lambda: "/w")
    there = node(job(ask)._setup(1))._setup.ask
    assert (there.model, there.repository) == (model, repository)
    assert of_one_machine(PLAN, there) == places


def test_all_actors_have_the_same_model() -> None:
    one = job(ModelAsk(model="m"))
    one._note_loaded(msgspec.json.encode(("host-a", "t1")))
    one._note_loaded(msgspec.json.encode(("host-b", "t1")))
    with pytest.raises(HostlerError, match=r"host-c has other files of the model '.*/m' than"):
        one._note_loaded(msgspec.json.encode(("host-c", "t2")))


async def test_copies_of_a_model_are_the_same_model(tmp_path: Path) -> None:
    from hostler.app.models import _digest

    for name, text in (("a/m", b"1"), ("b/m", b"1"), ("c/m", b"2")):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1/model.onnx").write_bytes(text)
    a, b, c = (_digest(tmp_path / name, 10) for name in ("a/m", "b/m", "c/m"))
    assert a == b != c
    with pytest.raises(HostlerError, match=r"files, more than the 0 of repository\.files_max"):
        _digest(tmp_path / "a", 0)
