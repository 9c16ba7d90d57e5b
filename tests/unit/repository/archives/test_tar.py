"""Tar archives, most of them made by somebody who means no good."""

import gzip
import os
import tarfile
import tracemalloc

import pytest
from fakes.packed import FOLDER, HARD, LINK, member, packed, tar_bytes, tar_header

from hostler.repository.archives import Limits, Refused, rules, streams, unpack

LIMITS = Limits(100, 1 << 20)
END = bytes(1024)


def run(archive, out, limits=LIMITS, **settings):
    out.mkdir()
    return list(unpack(str(archive), str(out), limits, **settings))[-1]


def unpacked(tmp_path, *members, limits=LIMITS, **settings):
    archive = packed(tmp_path / "model.tar.gz", *members, **settings)
    run(archive, tmp_path / "out", limits)
    return tmp_path / "out"


def raw(tmp_path, data, limits=LIMITS, **settings):
    (tmp_path / "model.tar").write_bytes(data)
    return run(tmp_path / "model.tar", tmp_path / "out", limits, **settings)


GOOD = (
    member(".", FOLDER),
    member("./bin", FOLDER, mode=0o700),
    member("./bin/run3", content=b"#!", mode=0o777),
    member("./bin/run", LINK, target="run3"),
    member("./lib/deep/er/a.py", content=b"a = 1\n"),
    member("./lib/b.py", HARD, target="lib/deep/er/a.py"),
    member("./lib64", LINK, target="lib"),
    member("./lib/up", LINK, target="deep/../../bin/run"),
    member("./lib/dangling", LINK, target="../no/such"),
    member("long/" + "x" * 200, content=b"x"),
    member("grüße", content=b"y"),
    member("empty", content=b""),
)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_model_comes_out_as_it_went_in(tmp_path, mode, form):
    out = unpacked(tmp_path, *GOOD, mode=mode, format=form)
    assert os.readlink(out / "bin" / "run") == "run3"
    assert (out / "lib64" / "deep" / "er" / "a.py").read_bytes() == b"a = 1\n"
    assert (out / "lib" / "b.py").samefile(out / "lib" / "deep" / "er" / "a.py")
    assert (out / "long" / ("x" * 200)).read_bytes() == b"x"
    assert (out / "grüße").read_bytes() == b"y"
    assert (out / "empty").read_bytes() == b""
    run3 = (out / "bin" / "run3").stat()
    assert run3.st_mode & 0o7777 == 0o755
    assert run3.st_mtime == 1_600_000_000
    assert (out / "lib" / "b.py").stat().st_mode & 0o7777 == 0o644


def test_what_macos_adds_is_left_out(tmp_path):
    xattr = {"LIBARCHIVE.xattr.com.apple.quarantine": "x" * 3000}
    model = member("./model.onnx", content=b"m", pax_headers=xattr)
    junk = [member("./._."), member("._model.onnx", content=b"junk"), member("a/._b", FOLDER)]
    out = unpacked(tmp_path, *junk, model, format=tarfile.PAX_FORMAT)
    assert os.listdir(out) == ["model.onnx"]


def test_the_same_file_twice_as_tar_packs_it(tmp_path):
    out = unpacked(tmp_path, member("a", content=b"1"), member("a", HARD, target="a"))
    assert (out / "a").read_bytes() == b"1"


def test_gzip_members_one_after_the_other_are_one_stream(tmp_path):
    data = tar_bytes(member("a", content=b"1" * 5000), mode="w")
    parts = [gzip.compress(data[i : i + 700], mtime=0) for i in range(0, len(data), 700)]
    raw(tmp_path, b"".join(parts) + bytes(512))
    assert (tmp_path / "out" / "a").read_bytes() == b"1" * 5000


def test_large_sizes_are_written_in_base_256(tmp_path):
    size = b"\x80" + (3).to_bytes(11, "big")
    raw(tmp_path, tar_header(b"a", b"0", 0, b"abc", size_field=size) + END)
    assert (tmp_path / "out" / "a").read_bytes() == b"abc"


def test_progress_is_told_piece_by_piece(tmp_path):
    archive = packed(tmp_path / "m.tar", member("a", content=bytes(3 << 20)), member("b"), mode="w")
    (tmp_path / "out").mkdir()
    steps = list(unpack(archive, str(tmp_path / "out"), Limits(9, 4 << 20)))
    assert [step.bytes >> 20 for step in steps if step.files == 1][:3] == [1, 2, 3]
    assert steps[-1] == (2, 3 << 20)


def test_it_can_be_abandoned_between_steps(tmp_path):
    archive = packed(tmp_path / "m.tar", *(member(f"f{i}") for i in range(9)), mode="w")
    (tmp_path / "out").mkdir()
    steps = unpack(archive, str(tmp_path / "out"), LIMITS)
    next(steps), next(steps)
    steps.close()
    assert len(os.listdir(tmp_path / "out")) < 4


PAX = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s"}
DEEP = "/".join(["d"] * 65)

REFUSED = {
    "climbs": ([member("../evil")], "'../evil' leads out"),
    "climbs further on": ([member("a/../../evil")], "leads out"),
    "climbs and comes back": ([member("a/../b")], "leads out"),
    "absolute": ([member("/etc/evil")], "'/etc/evil' has an absolute path"),
    "folder that climbs": ([member("a/..", FOLDER)], "leads out"),
    "what macOS adds, elsewhere": ([member("../._evil")], "leads out"),
    "link to an absolute path": ([member("x", LINK, target="/etc")], "absolute path '/etc'"),
    "link beside": ([member("x", LINK, target="../out2")], "'x' leads out"),
    "link from a folder": ([member("a/x", LINK, target="../../out2")], "leads out"),
    "link beneath a link": (
        [member("d", LINK, target="."), member("d/x", LINK, target="..")],
        "'d/x' lies beneath a link",
    ),
    # Each alone stays inside; one after the other they do not.
    "link to a link": (
        [member("a/b/c/up", LINK, target="../../.."), member("x", LINK, target="a/b/c/up/../z")],
        "leads out",
    ),
    "links in a circle": (
        [member("x", LINK, target="y"), member("y", LINK, target="x")],
        "more than 40 links",
    ),
    "links that wander": (
        [member(f"l{i}", LINK, target="x/../" * 190 + f"l{i + 1}") for i in range(9)],
        "passes more than 512 folders",
    ),
    "link without a target": ([member("x", LINK, target="")], "no path"),
    "file through a link": (
        [member("d", LINK, target="e"), member("e", FOLDER), member("d/f")],
        "'d' is a link and something else",
    ),
    "link over a folder": ([member("d/f"), member("d", LINK, target="e")], "something else"),
    "two links": ([member("d", LINK, target="a"), member("d", LINK, target="b")], "'d' is there"),
    "two files": ([member("d"), member("d")], "'d' is there twice"),
    "file, then folder": ([member("d"), member("d/e")], "something else"),
    "file, then link": ([member("d"), member("d", LINK, target="a")], "twice"),
    "link, then file through it": ([member("d", LINK, target="a"), member("d")], "something else"),
    "hard link to an absolute path": ([member("x", HARD, target="/etc/passwd")], "absolute"),
    "hard link that climbs": ([member("x", HARD, target="../passwd")], "leads out"),
    "hard link to what comes later": (
        [member("x", HARD, target="later"), member("later")],
        "'x' is to 'later', which is no file before it",
    ),
    "hard link to a link": (
        [member("l", LINK, target="f"), member("f"), member("x", HARD, target="l")],
        "no file before it",
    ),
    "hard link over a file": (
        [member("a"), member("b"), member("b", HARD, target="a")],
        "'b' is there twice",
    ),
    "character device": ([member("x", tarfile.CHRTYPE)], "'x' is a device"),
    "block device": ([member("x", tarfile.BLKTYPE)], "'x' is a device"),
    "pipe": ([member("x", tarfile.FIFOTYPE)], "'x' is a pipe"),
    "unknown kind": ([member("x", b"Z")], "'x' is of an unknown kind, 'Z'"),
    "set-user-id": ([member("x", mode=0o4755)], "'x' has a set-user-id"),
    "set-group-id": ([member("x", mode=0o2755)], "'x' has a set-user-id or set-group-id"),
    "file without a name": ([member(".", content=b"x")], "without a name"),
    "too many files": ([member(f"f{i}") for i in range(101)], "more than 100 files"),
    "too many folders": ([member(f"f{i}", FOLDER) for i in range(101)], "more than 100 files"),
    "too many bytes": (
        [member(name, content=bytes(700_000)) for name in "ab"],
        r"more than 1048576 bytes \(bytes_max\)",
    ),
    "long path": ([member("a/" + "/".join(["b" * 100] * 11))], "longer than 1024 bytes"),
    "long name": ([member("b" * 256)], "a name longer than 255 bytes"),
    "deep": ([member(DEEP)], "more than 64 folders deep"),
}  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path, case, form):
    members, word = REFUSED[case]
    with pytest.raises(Refused, match=word):
        unpacked(tmp_path, *members, format=form)
    outside = {path.name for path in tmp_path.iterdir()}
    assert outside == {"model.tar.gz", "out"}


def pax(*records: bytes) -> bytes:
    data = b"".join(records)
    return tar_header(b"x", b"x", len(data), data)


BYTES = {
    "old sparse file": (tar_header(b"s", b"S", 0) + END, "'s' is a sparse file"),
    "sparse file that claims petabytes": (
        pax(b"22 GNU.sparse.major=1\n", b"35 GNU.sparse.realsize=11258999068\n")
        + tar_header(b"s", b"0", 0)
        + END,
        "sparse file",
    ),
    "zero byte in a name": (pax(b"12 path=a\0b\n") + tar_header(b"x", b"0", 0) + END, "zero byte"),
    "pax length that lies": (pax(b"99 path=a\n") + END, "malformed"),
    "pax length of nothing": (pax(b"0 path=a\n") + END, "malformed"),
    "pax digits without end": (pax(b"1" * 100_000) + END, "malformed"),
    "pax size below zero": (
        pax(b"11 size=-5\n") + tar_header(b"x", b"0", 0) + END,
        "size of b'-5'",
    ),
    "pax size beyond all": (
        pax(b"29 size=99999999999999999999\n") + tar_header(b"x", b"0", 0) + END,
        "states a size",
    ),
    "huge pax header": (tar_header(b"x", b"x", 2 << 20, bytes(2 << 20)) + END, "header of more"),
    "huge pax header that is not there": (tar_header(b"x", b"x", 1 << 33) + END, "header of more"),
    "headers upon headers": (
        tar_header(b"././@LongLink", b"L", 1, b"x", b"ustar  \0") * 3000 + END,
        "header of more",
    ),
    "content that is not there": (tar_header(b"x", b"0", 700_000) + END, "cut short"),
    "content beyond all bounds": (tar_header(b"x", b"0", (1 << 33) - 1) + END * 1100, "1048576"),
    "damaged header": (tar_header(b"x", b"0", 0) + b"y" * 512 + END, "damaged header at byte 512"),
    "size that is no number": (
        tar_header(b"x", b"0", 0, size_field=b"0000000000z\0") + END,
        "size is no number",
    ),
    "without its end": (tar_header(b"x", b"0", 0), "cut short"),
    "several volumes": (tar_header(b"x", b"M", 0) + END, "unknown kind"),
    "empty": (b"", "no tar, tar.gz or zip archive"),
    "text": (b"hello" * 300, "no tar, tar.gz or zip archive"),
    "a web page": (b"<html>404</html>", "no tar, tar.gz or zip archive"),
    "gzip of no tar": (gzip.compress(b"no tar", mtime=0), "no tar, tar.gz or zip archive"),
    "bzip2": (b"BZh91AY&SY", "compressed with bzip2; pack it as .tar.gz"),
    "zstd": (b"\x28\xb5\x2f\xfd....", "compressed with zstd"),
    "damaged gzip": (b"\x1f\x8b\x08" + bytes(100), "compressed bytes are damaged"),
    "gzip checksum": (
        gzip.compress(tar_bytes(member("a"), mode="w"), mtime=0)[:-8] + bytes(8),
        "compressed bytes are damaged",
    ),
    "bytes after the gzip": (tar_bytes(member("a")) + b"more", "compressed bytes are damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", BYTES)
def test_what_is_refused_byte_by_byte(tmp_path, case):
    data, word = BYTES[case]
    with pytest.raises(Refused, match=word):
        raw(tmp_path, data)


def test_a_bomb_is_refused_by_how_much_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "FREE_RATIO_BYTES", 1000)
    zeros = member("zeros", content=bytes(8_000_000))
    limits = Limits(100, 1 << 30, ratio_setting="repository.archive_ratio_max")
    with pytest.raises(Refused, match=r"200 times .*archive_ratio_max.*bomb"):
        unpacked(tmp_path, zeros, limits=limits)
    written = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert written < 4 << 20, "most of it was never written"


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_every_cut_is_noticed(tmp_path, mode):
    data = tar_bytes(*GOOD, mode=mode)
    end = len(data.rstrip(b"\0")) if mode == "w" else len(data)
    for cut in range(0, end, max(1, end // 37)):
        archive = tmp_path / "cut.tar"
        archive.write_bytes(data[:cut])
        with pytest.raises(Refused):
            run(archive, tmp_path / f"out{cut}")


def test_what_a_header_for_all_members_says_is_not_kept_for_ever(tmp_path):
    parts = []
    for number in range(40):
        records = [b"%d %05d%04d=%b\n" % (1021, number, i, b"v" * 1005) for i in range(700)]
        data = b"".join(records)
        parts += [tar_header(b"g", b"g", len(data), data), tar_header(b"f%d" % number, b"0", 0)]
    archive = gzip.compress(b"".join(parts) + END, mtime=0)
    del parts, records, data
    tracemalloc.start()
    try:
        raw(tmp_path, archive, Limits(100, 1 << 30))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000  # of 28 MB that are in it
    finally:
        tracemalloc.stop()


def test_folders_that_only_names_tell_of_count_too(tmp_path):
    deep = [member(f"{i}/b/c/d/e/f/g/h/i/file") for i in range(12)]
    with pytest.raises(Refused, match="more than 100 files"):
        unpacked(tmp_path, *deep)
    made = sum(len(folders) + len(files) for _, folders, files in os.walk(tmp_path / "out"))
    assert made <= 100


def test_gzip_members_without_content_do_not_go_on_for_ever(tmp_path):
    with pytest.raises(Refused, match="gzip members are empty"):
        raw(tmp_path, gzip.compress(b"", mtime=0) * 20_000)
    whole = gzip.compress(b"", mtime=0) * 50 + tar_bytes(member("a"))
    (tmp_path / "out").rmdir()
    raw(tmp_path, whole)
    assert (tmp_path / "out" / "a").exists()


def test_links_that_stay_inside_pass():
    rules.check_links({"a/b": "../c/./d", "c": "e//f", "e": "a", "lib64": "lib"})


def test_gunzip_gives_no_more_than_it_is_asked_for(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(5_000_000)))
    with open(tmp_path / "a.gz", "rb") as file:
        stream = streams.Gunzip(file)
        sizes = [len(stream.read(1000)) for _ in range(10)]
    assert max(sizes) <= 1000
