"""Zip archives, most of them made by somebody who means no good."""

import io
import os
import stat
import struct
import zipfile
import zlib

import pytest
from fakes.packed import entry, zip_bytes

from hostler.repository.archives import Limits, Refused, rules, unpack

LIMITS = Limits(100, 1 << 20)
LINK_MODE = stat.S_IFLNK | 0o777


def unpacked(tmp_path, data, limits=LIMITS):
    (tmp_path / "model.zip").write_bytes(data)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    for _ in unpack(str(tmp_path / "model.zip"), str(out), limits):
        pass
    return out


def test_a_model_comes_out_as_it_went_in(tmp_path):
    data = zip_bytes(
        entry("./model/", mode=stat.S_IFDIR | 0o755),
        entry("./model/1/model.onnx", b"m" * 5000),
        entry("stored", b"s" * 5000, method=zipfile.ZIP_STORED),
        entry("run.sh", b"#!", mode=stat.S_IFREG | 0o700),
        entry("grüße", b"g"),
        entry("empty"),
        entry("latest", b"model/1", mode=LINK_MODE),
        entry("__MACOSX/model/._x", b"junk"),
        entry("windows\\file", b"w", system=0),
    )
    out = unpacked(tmp_path, data)
    assert (out / "model" / "1" / "model.onnx").read_bytes() == b"m" * 5000
    assert (out / "latest" / "model.onnx").read_bytes() == b"m" * 5000
    assert (out / "stored").read_bytes() == b"s" * 5000
    assert (out / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (out / "windows" / "file").read_bytes() == b"w"
    names = {"model", "stored", "run.sh", "grüße", "empty", "latest", "windows"}
    assert set(os.listdir(out)) == names


class Unseekable(io.BytesIO):
    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation

    def tell(self):
        raise io.UnsupportedOperation


def test_an_archive_that_was_written_to_a_pipe(tmp_path):
    buffer = Unseekable()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"1" * 5000)
    assert (unpacked(tmp_path, buffer.getvalue()) / "a").read_bytes() == b"1" * 5000


def test_zip64_and_a_comment(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a", "w", force_zip64=True) as file:
            file.write(b"1" * 5000)
        archive.comment = b"c" * 60_000
    data = buffer.getvalue()
    # What a writer of more than 4 GiB puts before the plain end of the directory.
    at = data.rindex(b"PK\5\6")
    fields = struct.unpack_from("<4s4H2LH", data, at)
    count, size, offset = fields[4], fields[5], fields[6]
    end_64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 1 << 32 - 1, 0xFFFFFFFF, 0)
    assert (unpacked(tmp_path, data) / "a").stat().st_size == 5000
    (tmp_path / "out" / "a").unlink()
    out = unpacked(tmp_path, data[:at] + end_64 + locator + end)
    assert (out / "a").read_bytes() == b"1" * 5000


REFUSED = {
    "climbs": ([entry("../evil")], "'../evil' leads out"),
    "climbs by backslashes": ([entry("..\\evil", system=0)], "'../evil' leads out"),
    "absolute": ([entry("/etc/evil")], "absolute path"),
    "link out": ([entry("x", b"../out2", LINK_MODE)], "'x' leads out"),
    "link to an absolute path": ([entry("x", b"/etc", LINK_MODE)], "absolute path '/etc'"),
    "file through a link": (
        [entry("d", b"e", LINK_MODE), entry("d/f", b"x")],
        "something else",
    ),
    "link to a link": (
        [entry("a/b/up", b"../..", LINK_MODE), entry("x", b"a/b/up/../z", LINK_MODE)],
        "leads out",
    ),
    "link with a long target": ([entry("x", b"y" * 2000, LINK_MODE)], "target that is no path"),
    "device": ([entry("x", mode=stat.S_IFCHR | 0o644)], "'x' is a device"),
    "pipe": ([entry("x", mode=stat.S_IFIFO | 0o644)], "'x' is a pipe"),
    "socket": ([entry("x", mode=stat.S_IFSOCK | 0o644)], "'x' is a socket"),
    "set-user-id": ([entry("x", mode=stat.S_IFREG | 0o4755)], "'x' has a set-user-id"),
    "too many files": ([entry(f"f{i}") for i in range(101)], "more than 100 files"),
    "too many bytes": ([entry("x", bytes(2 << 20))], "more than 1048576 bytes"),
    "another method": (
        [entry("x", b"x" * 99, method=zipfile.ZIP_LZMA)],
        "'x' is packed by method 14",
    ),
    "long path": ([entry("/".join(["b" * 100] * 11))], "longer than 1024 bytes"),
    "deep": ([entry("/".join(["d"] * 65))], "more than 64 folders deep"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path, case):
    entries, word = REFUSED[case]
    with pytest.raises(Refused, match=word):
        unpacked(tmp_path, zip_bytes(*entries))
    assert {path.name for path in tmp_path.iterdir()} == {"model.zip", "out"}


def test_the_same_name_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zip_bytes(entry("a", b"1"), entry("a", b"2"))
    with pytest.raises(Refused, match="'a' is there twice"):
        unpacked(tmp_path, data)


def changed(data: bytes, at: int, fmt: str, value: int) -> bytes:
    """The archive with one field of its first directory entry changed; `at` from its start."""
    start = data.index(b"PK\1\2") + at
    return data[:start] + struct.pack(fmt, value) + data[start + struct.calcsize(fmt) :]


ONE = zip_bytes(entry("x", b"hello" * 100))
STORED = zip_bytes(entry("x", b"hello", method=zipfile.ZIP_STORED))
TWO = zip_bytes(entry("x", b"x" * 50), entry("y", b"y" * 50))
LYING = {
    "encrypted": (changed(ONE, 8, "<H", 1), "'x' is encrypted"),
    "checksum": (changed(ONE, 16, "<L", 5), "checksum or size is wrong"),
    "smaller than it is": (changed(ONE, 24, "<L", 5), "more bytes than the directory says"),
    "larger than it is": (changed(ONE, 24, "<L", 600), "checksum or size is wrong"),
    "packed size beyond the file": (changed(ONE, 20, "<L", 1 << 20), "overlaps"),
    "packed size cut": (changed(ONE, 20, "<L", 3), "bytes end too early"),
    "stored with another size": (changed(STORED, 24, "<L", 50), "not with its own size"),
    "elsewhere": (
        TWO[:4] + TWO[4:].replace(b"PK\3\4", b"PK\3\5", 1),
        "'y' is not where the directory says",
    ),
    "full without zip64": (changed(ONE, 24, "<L", 0xFFFFFFFF), "more than 1048576 bytes"),
    "the same bytes twice": (
        TWO.replace(struct.pack("<L", TWO.index(b"PK\3\4", 4)) + b"y", struct.pack("<L", 0) + b"y"),
        "overlaps with what comes after",
    ),
    "two volumes": (ONE[:-18] + b"\1\0" + ONE[-16:], "one part of several"),
    "more entries than there are": (
        ONE[:-14] + b"\x09\0\x09\0"[:4] + ONE[-10:],
        "entries|directory",
    ),
    "deflate that is none": (
        ONE.replace(ONE[31:40], b"\xff" * 9, 1),
        "'x' is damaged",
    ),
    "without its directory": (ONE[:60], "cut short"),
}


@pytest.mark.parametrize("case", LYING)
def test_a_directory_that_lies(tmp_path, case):
    data, word = LYING[case]
    assert data != ONE
    with pytest.raises(Refused, match=word):
        unpacked(tmp_path, data)


def test_a_bomb_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "FREE_RATIO_BYTES", 1000)
    with pytest.raises(Refused, match="200 times"):
        unpacked(tmp_path, zip_bytes(entry("x", bytes(8_000_000))), Limits(100, 1 << 30))
    assert not list((tmp_path / "out").iterdir())


def test_every_cut_is_noticed(tmp_path):
    for cut in range(4, len(TWO)):
        with pytest.raises(Refused):
            unpacked(tmp_path, TWO[:cut])
        for path in (tmp_path / "out").iterdir():
            path.unlink()


def test_zeros_cost_no_memory(tmp_path):
    data = zip_bytes(entry("x", bytes(1 << 19)))
    assert len(data) < 1 << 12
    assert zlib.crc32((unpacked(tmp_path, data) / "x").read_bytes()) == zlib.crc32(bytes(1 << 19))
