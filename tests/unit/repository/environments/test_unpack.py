"""What is peculiar to archives of environments; what is refused in any stands in ../archives."""

import os

import pytest
from fakes.packed import FILE, FOLDER, LINK, entry, member, packed, zipped

from hostler.repository.environments.store import EnvironmentStore
from hostler.repository.environments.unpack import archives, unpack

LIMITS = archives().Limits(100, 1 << 20, set_id=True)


def unpacked(tmp_path, *members, limits=LIMITS, **settings):
    archive = packed(tmp_path / "env.tar", *members, **settings)
    target = tmp_path / "out"
    target.mkdir()
    assert unpack(archive, str(target), limits) == len(members)
    return target


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_environment_comes_out_as_it_went_in(tmp_path, mode):
    out = unpacked(
        tmp_path,
        member(".", FOLDER),
        member("./bin", FOLDER, mode=0o700),
        member("./bin/python3.11", FILE, b"#!", mode=0o4777),
        member("./bin/python", LINK, target="python3.11"),
        mode=mode,
    )
    assert os.readlink(out / "bin" / "python") == "python3.11"
    python = (out / "bin" / "python3.11").stat()
    assert python.st_mode & 0o7777 == 0o755, "its set-user-id bit is gone"
    assert python.st_mtime == 1_600_000_000


def test_an_archive_cannot_say_that_it_is_whole(tmp_path):
    store, key = EnvironmentStore(tmp_path / "store"), "0" * 32
    python = member("bin/python", content=b"#!", mode=0o755)
    records = (member(f"hostler-environment.json{end}", content=b"{}") for end in ("", ".new"))
    archive = packed(tmp_path / "env.tar", python, *records)
    folder = store.begin(key)
    unpack(archive, str(folder), LIMITS)
    assert os.listdir(folder) == ["bin"]
    assert store.python(key) is None, "it was not finished"


def test_zip_archives_are_no_environments(tmp_path):
    archive = zipped(tmp_path / "env.zip", entry("bin/python", b"#!"))
    (tmp_path / "out").mkdir()
    with pytest.raises(archives().Refused, match="zip"):
        unpack(archive, str(tmp_path / "out"), LIMITS)


def test_what_is_refused_names_its_setting(tmp_path):
    limits = archives().Limits(2, 1 << 20, files_setting="repository.environment_files_max")
    archive = packed(tmp_path / "env.tar", member("a"), member("b"), member("c"))
    (tmp_path / "out").mkdir()
    with pytest.raises(archives().Refused, match=r"2 files .repository.environment_files_max"):
        unpack(archive, str(tmp_path / "out"), limits)
