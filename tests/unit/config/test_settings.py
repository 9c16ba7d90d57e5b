"""The real tree: every room's settings, at their defaults and set from everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.config import Settings, known_settings, resolve, yaml_file
from hostler.core import HostlerError

KNOWN = known_settings()


def test_nothing_given_is_the_default_of_every_room() -> None:
    assert resolve(variables={}).settings == Settings()


@pytest.mark.parametrize("name", KNOWN)
def test_every_default_passes_its_own_check(name: str, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(yaml_file({name: KNOWN[name]}, {name: KNOWN[name].default}))
    found = resolve(file=path, variables={})
    assert found.settings == Settings()
    assert found.source(name).startswith(f"{path}:")


def test_the_file_that_a_variable_names_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hostler.yaml"
    path.write_text("gateway: {port: 9999}")
    monkeypatch.setenv("HOSTLER_CONFIG", str(path))
    monkeypatch.setenv("HOSTLER_GATEWAY__HOST", "::1")
    found = resolve().settings.gateway
    assert (found.host, found.port) == ("::1", 9999)


def test_a_typing_slip_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(HostlerError, match=r"did you mean 'gateway.port'"):
        resolve(flags=[("gateway.prot", "1", "--set")], variables={})
