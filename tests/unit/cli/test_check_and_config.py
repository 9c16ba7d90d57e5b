"""`hostler check` and `hostler config`: tables, JSON and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hostler.cli import check
from hostler.config import Settings, known_settings, resolve


@dataclass
class Row:
    """As `app.CheckRow`."""

    name: str = "digits"
    version: int | None = 1
    runtime: str = "onnx"
    ok: bool = True
    load_s: float = 0.25
    footprint_bytes: int = 2 << 20
    error: str = ""


FAILED = Row("bad", None, "", ok=False, error="config.pbtxt:3: unknown field 'inptu'")


@pytest.fixture
def check_gives(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let `app.check` find these rows."""

    def gives(*rows: Row) -> None:
        class App:
            @staticmethod
            def check(
                settings: Settings, paths: Sequence[Path], progress: Callable[[str], None]
            ) -> list[Row]:
                progress("loading digits:1")
                return list(rows)

        monkeypatch.setattr(check, "app", App)

    return gives


@pytest.mark.parametrize(
    ("rows", "code"), [((Row(),), 0), ((Row(), FAILED), 1), ((FAILED,), 1), ((), 1)]
)
def test_the_exit_code_says_whether_all_is_well(
    run: Any, check_gives: Any, rows: tuple[Row, ...], code: int
) -> None:
    check_gives(*rows)
    assert run("check", ".").code == code


def test_the_table_of_models(run: Any, check_gives: Any) -> None:
    check_gives(Row(), FAILED)
    ran = run("check", ".")
    lines = [line.split(maxsplit=6) for line in ran.out.splitlines()]
    assert lines[1] == ["digits", "1", "onnx", "ok", "250", "ms", "2 MiB"]
    assert lines[2][:4] == ["bad", "-", "-", "failed"]
    assert "config.pbtxt:3: unknown field 'inptu'" in ran.out
    assert ran.error == "loading digits:1\n"


def test_the_models_as_json(run: Any, check_gives: Any) -> None:
    check_gives(Row())
    [row] = json.loads(run("check", ".", "--json").out)
    assert (row["name"], row["ok"], row["footprint_bytes"]) == ("digits", True, 2 << 20)


def test_a_folder_that_is_not_there(run: Any) -> None:
    assert run("check", "/no/such").code == 2


def test_every_setting_is_a_line(run: Any) -> None:
    lines = run("config", "--set", "gateway.port=9").out.splitlines()
    assert [line.split()[0] for line in lines] == ["SETTING", *known_settings()]
    [port] = [line.split() for line in lines if line.startswith("gateway.port ")]
    assert port[1:5] == ["9", "count", "8000", "--set"]


def test_words_choose_settings(run: Any) -> None:
    lines = run("config", "gateway.p", "loads_max").out.splitlines()
    assert {line.split()[0] for line in lines[1:]} >= {"gateway.port", "serving.loads_max"}
    assert len(lines) < len(known_settings()) / 2


def test_json_has_every_fact(run: Any) -> None:
    rows = json.loads(run("config", "--json").out)
    assert [row["name"] for row in rows] == list(known_settings())
    facts = {"name", "value", "unit", "default", "source", "allowed", "variable", "description"}
    assert all(set(row) == facts for row in rows)


def test_yaml_is_a_file_that_reads_back(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "hostler.yaml"
    path.write_text(run("config", "--yaml", "--set", "gateway.port=9").out)
    found = resolve(file=path, variables={})
    assert list(found.sources) == ["gateway.port"]
    assert found.settings.gateway.port == 9


def test_markdown_is_the_reference_page(run: Any) -> None:
    page = run("config", "--markdown").out
    assert page.startswith("# Settings")
    assert all(f"| `{name}` |" in page for name in known_settings())


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_secrets_are_not_shown(run: Any, form: list[str]) -> None:
    secrets = ["storage.s3_secret_access_key=hunter2", "storage.s3_access_key_id=key"]
    shown = run("config", "storage", *form, *(word for s in secrets for word in ("--set", s))).out
    assert "***" in shown
    assert "hunter2" not in shown
