"""Archives of environments, most of them made by somebody who means no good."""

import gzip
import io
import os
import tarfile

import pytest

from hostler.repository.environments import unpack as unpacking
from hostler.repository.environments.store import EnvironmentStore
from hostler.repository.environments.unpack import Limits, Refused, check_links, unpack

LIMITS = Limits(100, 1 << 20)
FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def member(name, kind=FILE, content=b"", target="", **fields):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content)
    for field, value in {"mode": 0o644, "mtime": 1_600_000_000, **fields}.items():
        setattr(info, field, value)
    return info, content


def packed(path, *members, mode="w:gz", **settings):
    with tarfile.open(path, mode, **settings) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def unpacked(tmp_path, *members, limits=LIMITS, **settings):
    archive = packed(tmp_path / "env.tar", *members, **settings)
    target = tmp_path / "out"
    target.mkdir()
    unpack(archive, str(target), limits)
    return target


GOOD = (
    member(".", FOLDER),
    member("./bin", FOLDER, mode=0o700),
    member("./bin/python3.11", content=b"#!", mode=0o4777),
    member("./bin/python", LINK, target="python3.11"),
    member("./lib/deep/er/a.py", content=b"a = 1\n"),
    member("./lib/b.py", HARD, target="lib/deep/er/a.py"),
    member("./lib64", LINK, target="lib"),
    member("./lib/up", LINK, target="deep/../../bin/python"),
    member("./lib/dangling", LINK, target="../no/such"),
)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_environment_comes_out_as_it_went_in(tmp_path, mode, form):
    out = unpacked(tmp_path, *GOOD, mode=mode, format=form)
    assert os.readlink(out / "bin" / "python") == "python3.11"
    assert (out / "lib64" / "deep" / "er" / "a.py").read_bytes() == b"a = 1\n"
    assert (out / "lib" / "b.py").samefile(out / "lib" / "deep" / "er" / "a.py")
    python = (out / "bin" / "python3.11").stat()
    assert python.st_mode & 0o7777 == 0o755
    assert python.st_mtime == 1_600_000_000
    assert (out / "lib" / "b.py").stat().st_mode & 0o7777 == 0o644


def test_an_archive_cannot_say_that_it_is_whole(tmp_path):
    store, key = EnvironmentStore(tmp_path / "store"), "0" * 32
    python = member("bin/python", content=b"#!", mode=0o755)
    records = (member(f"hostler-environment.json{end}", content=b"{}") for end in ("", ".new"))
    archive = packed(tmp_path / "env.tar", python, *records)
    folder = store.begin(key)
    unpack(archive, str(folder), LIMITS)
    assert os.listdir(folder) == ["bin"]
    assert store.python(key) is None, "it was not finished"


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ([member("../evil")], "leads out"),
        ([member("a/../../evil")], "leads out"),
        ([member("/etc/evil")], "absolute"),
        ([member("a/..", FOLDER)], "leads out"),
        ([member("x", LINK, target="/etc")], "absolute path '/etc'"),
        ([member("x", LINK, target="../out2")], "leads out"),
        ([member("a/x", LINK, target="../../out2")], "leads out"),
        ([member("d", LINK, target="."), member("d/x", LINK, target="..")], "beneath a link"),
        # Each alone stays inside; one after the other they do not.
        (
            [
                member("a/b/c/up", LINK, target="../../.."),
                member("x", LINK, target="a/b/c/up/../z"),
            ],
            "leads out",
        ),
        ([member("x", LINK, target="y"), member("y", LINK, target="x")], "more than 40 links"),
        ([member("d", LINK, target="e"), member("e", FOLDER), member("d/f")], "something else"),
        ([member("d/f"), member("d", LINK, target="e")], "something else"),
        ([member("d", LINK, target="a"), member("d", LINK, target="b")], "twice"),
        ([member("d"), member("d")], "twice"),
        ([member("d"), member("d/e")], "something else"),
        ([member("d"), member("d", LINK, target="a")], "twice"),
        ([member("x", HARD, target="/etc/passwd")], "absolute"),
        ([member("x", HARD, target="../passwd")], "leads out"),
        ([member("x", HARD, target="later"), member("later")], "no file before it"),
        ([member("l", LINK, target="f"), member("f"), member("x", HARD, target="l")], "no file"),
        ([member("x", tarfile.CHRTYPE)], "device"),
        ([member("x", tarfile.BLKTYPE)], "device"),
        ([member("x", tarfile.FIFOTYPE)], "device or pipe"),
        ([member(".", content=b"x")], "without a name"),
        ([member(f"f{i}") for i in range(101)], "more than 100 files"),
        ([member("big", content=bytes(700_000)), member("b2", content=bytes(700_000))], "1048576"),
    ],
)
def test_what_is_refused(tmp_path, members, word):
    with pytest.raises(Refused, match=word):
        unpacked(tmp_path, *members)
    outside = {path.name for path in tmp_path.iterdir()}
    assert outside == {"env.tar", "out"}


def test_a_bomb_is_refused_by_how_much_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "FREE_RATIO_BYTES", 1000)
    zeros = member("zeros", content=bytes(8_000_000))
    with pytest.raises(Refused, match="200 times"):
        unpacked(tmp_path, zeros, limits=Limits(100, 1 << 30))


def test_a_sparse_file_counts_with_what_it_claims(tmp_path):
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s"}
    info, content = member("s", content=b"0\n".ljust(512, b"\0"))
    info.pax_headers = {**pax, "GNU.sparse.realsize": str(1 << 50)}
    with pytest.raises(Refused, match="unpacks to more"):
        unpacked(tmp_path, (info, content), format=tarfile.PAX_FORMAT)


def test_a_huge_header_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "HEADER_BYTES_MAX", 1 << 16)
    info, content = member("f")
    info.pax_headers = {"comment": "x" * 200_000}
    with pytest.raises(Refused, match="header of"):
        unpacked(tmp_path, (info, content), format=tarfile.PAX_FORMAT)


def test_headers_upon_headers_end(tmp_path):
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1
    one = long_name.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
    (tmp_path / "env.tar").write_bytes(one * 3000 + bytes(1024))
    (tmp_path / "out").mkdir()
    with pytest.raises(Refused, match="not sound"):
        unpack(str(tmp_path / "env.tar"), str(tmp_path / "out"), Limits(100, 1 << 30))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_every_cut_is_noticed(tmp_path, mode):
    whole = tmp_path / "whole.tar"
    packed(whole, *GOOD, mode=mode)
    data = whole.read_bytes()
    end = len(data.rstrip(b"\0")) if mode == "w" else len(data)
    for cut in range(0, end, max(1, end // 37)):
        archive, out = tmp_path / "cut.tar", tmp_path / f"out{cut}"
        archive.write_bytes(data[:cut])
        out.mkdir()
        with pytest.raises(Refused):
            unpack(str(archive), str(out), LIMITS)


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04 zip", b"hello" * 300, gzip.compress(b"no tar", mtime=0)],
    ids=["empty", "zip", "text", "gzip"],
)
def test_what_is_no_archive(tmp_path, data):
    (tmp_path / "env.tar").write_bytes(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(Refused):
        unpack(str(tmp_path / "env.tar"), str(tmp_path / "out"), LIMITS)


def test_links_that_stay_inside_pass():
    check_links({"a/b": "../c/./d", "c": "e//f", "e": "a", "lib64": "lib"})
