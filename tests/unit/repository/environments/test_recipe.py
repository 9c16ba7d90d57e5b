import codecs
import os

import numpy as np
import pytest
from fakes.packages import write_package

from hostler.core import Environment, HostlerError
from hostler.repository import Config
from hostler.repository.environments.recipe import Digests, recipe_of


def recipe(package, path="requirements.txt", digests=None, kind="requirements", **settings):
    environment = Environment(kind, package / path, package)
    return recipe_of("m", environment, Config(**settings), digests or Digests())


def test_the_key_is_of_what_is_installed(tmp_path):
    texts = ["a==1\nb\n", "# why\n\na==1   # pinned\n  b  \n", "a==2\nb\n", "b\n-r more.txt"]
    keys = []
    for index, text in enumerate(texts):
        package = write_package(
            tmp_path / str(index), {"requirements.txt": text, "more.txt": "a==1"}
        )
        keys.append(recipe(package).key)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"environment_timeout_s": 5.0}, True),
        ({"environments_dir": "/elsewhere"}, True),
        ({"pip_arguments": ("--pre",)}, False),
        ({"environment_python": "/bin/sh"}, False),
    ],
)
def test_settings_that_change_what_is_built_change_the_key(tmp_path, settings, same):
    package = write_package(tmp_path, {"requirements.txt": "a"})
    assert (recipe(package).key == recipe(package, **settings).key) is same


def test_a_local_wheel_counts_by_its_content(tmp_path):
    for name in ("one", "two"):
        write_package(tmp_path / name, {"requirements.txt": "./x.whl", "x.whl": b"content"})
    one, two = recipe(tmp_path / "one"), recipe(tmp_path / "two")
    assert one.key == two.key
    (tmp_path / "two" / "x.whl").write_bytes(b"another")
    assert recipe(tmp_path / "two").key != one.key


def test_an_archive_counts_by_its_content_and_is_read_once(tmp_path, monkeypatch):
    write_package(tmp_path, {"a.tar.gz": b"content", "b.tar.gz": b"content"})
    digests = Digests()
    one = recipe(tmp_path, "a.tar.gz", digests, "packed")
    assert recipe(tmp_path, "b.tar.gz", digests, "packed").key == one.key
    monkeypatch.setattr("hashlib.blake2b", None)
    with pytest.raises(TypeError):
        Digests().of(str(tmp_path / "a.tar.gz"))
    assert digests.of(str(tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_texts_as_editors_write_them(tmp_path, encoding):
    (tmp_path / "requirements.txt").write_bytes("a==1 # grüß\n".encode(encoding))
    assert recipe(tmp_path).content == ("a==1",)


def test_what_people_are_shown_has_no_options(tmp_path):
    write_package(
        tmp_path, {"requirements.txt": "--index-url https://me:secret@x/\na --hash=sha256:1"}
    )
    assert recipe(tmp_path).content == ("a",)


@pytest.mark.parametrize(
    ("files", "settings", "word"),
    [
        ({"requirements.txt": "-r missing.txt"}, {}, "missing.txt"),
        ({"requirements.txt": "./missing.whl"}, {}, "missing.whl"),
        ({"requirements.txt": codecs.BOM_UTF8 + b"\xff"}, {}, "not UTF-8"),
        ({"requirements.txt": b"a" * ((1 << 20) + 1)}, {}, "longer than"),
        ({"requirements.txt": "a"}, {"environment_python": "/no/such"}, "environment_python"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, files, settings, word):
    write_package(tmp_path, files)
    with pytest.raises(HostlerError, match=word):
        recipe(tmp_path, **settings)


def test_includes_do_not_leave_by_a_link(tmp_path):
    write_package(tmp_path, {"secret.txt": "a", "m/requirements.txt": "-r linked.txt"})
    os.symlink("../secret.txt", tmp_path / "m" / "linked.txt")
    with pytest.raises(HostlerError, match="link out of the package"):
        recipe(tmp_path / "m")
    assert recipe(tmp_path / "m", follow_links=True).content == ("a",)


def listed(package, *beside, **settings):
    source = Environment("requirements", package / "requirements.txt", package, beside)
    return recipe_of("m", source, Config(**settings), Digests()).content


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("a\n", True),
        ("numpy_x\n", True),
        ("NumPy>=1\n", False),
        ("other-name[x]==2\n", False),
        ("./numpy-2.0-py3-none-any.whl\n", False),
        ("numpy @ https://host/x.whl\n", False),
        ("a==1 --hash=sha256:00\n", False),
    ],
)
def test_what_a_container_brings_is_installed_too_unless_the_file_names_it(tmp_path, text, added):
    files = {"requirements.txt": text, "numpy-2.0-py3-none-any.whl": b""}
    package = write_package(tmp_path, files)
    content = listed(package, ("numpy", "other-name"))
    assert (content[-1] == f"numpy=={np.__version__}") is added
    assert len(content) == 1 + added


def test_of_several_names_the_servers_own_counts(tmp_path):
    package = write_package(tmp_path, {"requirements.txt": "a"})
    assert listed(package, ("no-such", "numpy"))[-1] == f"numpy=={np.__version__}"
    assert listed(package, ("no-such", "no-more"))[-1] == "no-such"
    other = listed(package, ("numpy",), environment_python="/bin/sh")
    assert other[-1] == "numpy", "another Python has its own versions"
