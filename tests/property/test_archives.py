"""Laws of unpacking: honest archives come out whole, others are refused, nothing gets out."""

import contextlib
import io
import os
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

from fakes.packed import FOLDER, HARD, LINK, entry, member, tar_bytes, zip_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from hostler.repository.archives import Limits, Refused, is_apple_double, unpack

LIMITS = Limits(200, 1 << 20)
NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and not name.startswith("._"))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TREES = st.dictionaries(PATHS, st.binary(max_size=2000), max_size=8).map(
    lambda tree: {
        path: body
        for path, body in tree.items()
        if not any(other.startswith(f"{path}/") for other in tree) and not is_apple_double(path)
    }
)


class Box:
    """A folder with one beside it, to see whether anything gets out."""

    def __enter__(self):
        self._made = tempfile.TemporaryDirectory()
        self.top = Path(self._made.name)
        self.out = self.top / "out"
        self.out.mkdir()
        (self.top / "outside").mkdir()
        (self.top / "outside" / "secret").write_bytes(b"secret")
        return self

    def __exit__(self, *_):
        self._made.cleanup()

    def unpack(self, data, limits=LIMITS):
        archive = self.top / "archive"
        archive.write_bytes(data)
        for _ in unpack(str(archive), str(self.out), limits):
            pass

    def check(self):
        names = {path.name for path in self.top.iterdir()}
        assert names == {"archive", "out", "outside"}
        assert os.listdir(self.top / "outside") == ["secret"]
        assert (self.top / "outside" / "secret").read_bytes() == b"secret"
        root = os.path.realpath(self.out)
        for folder, folders, files in os.walk(self.out):
            for name in folders + files:
                path = os.path.join(folder, name)
                real = os.path.realpath(path)
                assert real == root or real.startswith(root + "/"), path
                found = os.lstat(path)
                assert stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
                assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID) or name in folders

    def files(self):
        return {
            os.path.relpath(os.path.join(folder, name), self.out): Path(folder, name).read_bytes()
            for folder, _, files in os.walk(self.out)
            for name in files
        }


@given(
    TREES,
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from(["w", "w:gz"]),
    st.sampled_from(["", "./"]),
)
@settings(max_examples=60)
def test_what_python_packs_comes_out(tree, form, mode, before):
    data = tar_bytes(
        *(member(before + p, content=b) for p, b in tree.items()), mode=mode, format=form
    )
    with Box() as box:
        box.unpack(data)
        box.check()
        assert box.files() == tree


@given(TREES, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
@settings(max_examples=60)
def test_what_python_zips_comes_out(tree, method):
    entries = {path.replace("\\", "_"): body for path, body in tree.items()}
    kept = {p: b for p, b in entries.items() if not any(o.startswith(f"{p}/") for o in entries)}
    with Box() as box:
        box.unpack(zip_bytes(*(entry(p, b, method=method) for p, b in kept.items())))
        box.check()
        assert box.files() == kept


PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "outside"])
TARGETS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE, FOLDER, LINK, LINK, LINK, HARD])
MEMBERS = st.lists(st.tuples(KINDS, TARGETS, TARGETS), min_size=1, max_size=7)


@given(MEMBERS)
@settings(max_examples=150)
def test_no_links_and_names_get_out(members):
    packed = [
        member(name, kind, b"x" if kind == tarfile.REGTYPE else b"", target)
        for kind, name, target in members
    ]
    with Box() as box:
        with contextlib.suppress(Refused):
            box.unpack(tar_bytes(*packed, mode="w"))
        box.check()


@given(MEMBERS)
@settings(max_examples=150)
def test_no_links_and_names_of_zips_get_out(members):
    modes = {LINK: stat.S_IFLNK | 0o777, FOLDER: stat.S_IFDIR | 0o755}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, (kind, name, target) in enumerate(members):
            # Made unique, since zipfile warns of names that are there twice.
            info, body = entry(f"{name}/{index}", mode=modes.get(kind, 0o100644))
            archive.writestr(info, target.encode() if kind == LINK else body)
    with Box() as box:
        with contextlib.suppress(Refused):
            box.unpack(buffer.getvalue())
        box.check()


HONEST = tar_bytes(
    member(".", FOLDER),
    member("./a/b", content=b"1" * 700),
    member("./l", LINK, target="a"),
    member("./h", HARD, target="a/b"),
    member("n" * 150, content=b"2"),
    member("grüße", content=b"3", pax_headers={"comment": "c" * 600}),
    mode="w",
    format=tarfile.PAX_FORMAT,
)
ZIPPED = zip_bytes(entry("a/b", b"1" * 700), entry("l", b"a", stat.S_IFLNK | 0o777), entry("c/"))


@given(st.sampled_from([HONEST, ZIPPED]), st.data())
@settings(max_examples=200)
def test_damage_is_refused_or_harmless(honest, data):
    body = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(body))))
    with Box() as box:
        with contextlib.suppress(Refused):
            box.unpack(bytes(body[:cut]), Limits(50, 1 << 16))
        box.check()


@given(st.binary(max_size=3000), st.sampled_from([b"", b"PK\3\4", b"\x1f\x8b\x08\0"]))
def test_any_bytes_are_refused_at_worst(body, before):
    with Box() as box:
        with contextlib.suppress(Refused):
            box.unpack(before + body)
        box.check()


@given(
    st.binary(max_size=600).map(lambda body: body.ljust(512, b"\0")[:512]),
    st.sampled_from([b"x", b"g", b"L", b"K", b"0", b"2", b"5", b"S"]),
)
def test_any_header_with_a_right_checksum(body, kind):
    block = bytearray(body)
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with Box() as box:
        with contextlib.suppress(Refused):
            box.unpack(bytes(block) + body * 4 + bytes(1024))
        box.check()
