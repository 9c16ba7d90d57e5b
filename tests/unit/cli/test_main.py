"""What the command line says to people, and its exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hostler
from hostler.cli import serve
from hostler.cli.main import COMMANDS
from hostler.core import Code, HostlerError


class FakeApp:
    """Stands in for `hostler.app`: keeps what it is called with, and ends as it is told."""

    def __init__(self, outcome: int | BaseException = 0) -> None:
        self.outcome = outcome
        self.calls: list[tuple[Any, list[Path]]] = []

    def serve(self, settings: Any, paths: list[Path], told: Any) -> int:
        """As `app.serve`."""
        self.told = set(told)
        self.calls.append((settings, paths))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FakeApp:
    fake = FakeApp()
    monkeypatch.setattr(serve, "app", fake)
    return fake


def test_help_teaches(run: Any) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        ran = run(*arguments)
        assert ran.code == 0
        assert "hostler serve ./models" in ran.out
        for name, entry in COMMANDS.items():
            assert name in ran.out
            assert entry.summary[:30] in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(run: Any, name: str) -> None:
    ran = run(name, "--help")
    assert ran.code == 0
    assert f"hostler {name}" in ran.out


def test_version(run: Any) -> None:
    for word in ("version", "--version"):
        assert run(word).out == f"{hostler.__version__}\n"


def test_serve_hands_settings_and_folders_to_the_app(
    run: Any, app: FakeApp, tmp_path: Path
) -> None:
    file = tmp_path / "hostler.yaml"
    file.write_text("gateway: {port: 1, host: '::1'}\nserving: {loads_max: 2}\n")
    ran = run(
        "serve", str(tmp_path), str(file), "--config", str(file), "--port", "9000",
        "--memory-budget", "4GiB", "--model-control", "explicit", "--load-model", "a,b",
        "--load-model", "c", "--set", "scheduler.queue_requests_max=7",
    )  # fmt: skip
    assert (ran.code, ran.error) == (0, "")
    [(settings, paths)] = app.calls
    assert paths == [tmp_path, file]
    assert (settings.gateway.host, settings.gateway.port) == ("::1", 9000)
    assert (settings.serving.memory_budget_bytes, settings.serving.loads_max) == (4 << 30, 2)
    assert settings.serving.control_mode == "explicit"
    assert settings.serving.startup_models == ("a,b", "c")
    assert settings.scheduler.queue_requests_max == 7
    assert app.told == {
        "gateway.host",
        "gateway.port",
        "scheduler.queue_requests_max",
        "serving.control_mode",
        "serving.loads_max",
        "serving.memory_budget_bytes",
        "serving.startup_models",
    }


def test_serve_without_models_waits_for_some(run: Any, app: FakeApp) -> None:
    assert run("serve", "--state-dir", "state").code == 0
    [(settings, paths)] = app.calls
    assert (paths, settings.control.state_dir) == ([], Path("state"))


def test_the_apps_exit_code_is_the_commands(run: Any, app: FakeApp, tmp_path: Path) -> None:
    app.outcome = 3
    assert run("serve", str(tmp_path)).code == 3


MISUSES = [
    (("serve", "/no/such/folder"), "/no/such/folder: no such file or folder"),
    (("serve", ".", "--prot", "1"), "--port"),
    (("serve", ".", "--port", "70000"), "--port: gateway.port is '70000', but an integer"),
    (("serve", ".", "--set", "gateway.port"), "ROOM.FIELD=VALUE is expected"),
    (("serve", ".", "--set", "gateway.prot=1"), "did you mean 'gateway.port'"),
    (("serve", ".", "--config", "/no.yaml"), "/no.yaml: No such file"),
    (("serv",), "serve"),
    (("config", "xyzzy"), "no setting has 'xyzzy' in its name"),
    (("models", "--url", "ftp://x"), "an address such as http://127.0.0.1:8000"),
    (("environments", "purge"), "'action': 'purge' is not one of 'list', 'prune'"),
    (("models", "--key", "key.pem"), "--key key.pem: it goes with a certificate"),
    (("models", "--cert", "/no.pem"), "--cert /no.pem: No such file"),
    (("infer", "digits"), "--input"),
    (("infer", "digits", "--input", "1", "--output", "xml"), "--output"),
]


@pytest.mark.parametrize(("arguments", "said"), MISUSES)
def test_misuse_is_one_line_and_exit_code_2(
    run: Any, app: FakeApp, arguments: tuple[str, ...], said: str
) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.error.startswith("hostler: error: ")
    assert ran.error.count("\n") == 1
    assert said in ran.error
    assert not app.calls


FAILURES = [
    (HostlerError(Code.UNAVAILABLE, "the disk is gone"), "the disk is gone"),
    (OSError(98, "Address already in use"), "the address is in use"),
    (PermissionError(13, "Permission denied"), "permission denied"),
]


@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_a_failure_is_one_line_and_exit_code_1(
    run: Any, app: FakeApp, tmp_path: Path, error: Exception, said: str
) -> None:
    app.outcome = error
    ran = run("serve", str(tmp_path))
    assert ran.code == 1
    assert said in ran.error
    assert ran.error.count("\n") == 1


def test_ctrl_c_ends_as_shells_expect(run: Any, app: FakeApp, tmp_path: Path) -> None:
    app.outcome = KeyboardInterrupt()
    assert run("serve", str(tmp_path)).code == 130


def test_a_bug_is_not_hidden(run: Any, app: FakeApp, tmp_path: Path) -> None:
    app.outcome = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        run("serve", str(tmp_path))
