"""Archives as the programs of this machine pack them."""

import os
import shutil
import subprocess

import pytest

from hostler.repository.archives import Limits, unpack

LIMITS = Limits(1000, 64 << 20)
NEEDS_TAR = pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
NEEDS_ZIP = pytest.mark.skipif(shutil.which("zip") is None, reason="needs zip")


@pytest.fixture
def model(tmp_path):
    """A model as teams have it: code, weights, links, long names."""
    top = tmp_path / "model"
    (top / "code" / "deep" / "er").mkdir(parents=True)
    (top / "code" / "inference.py").write_text("import os\n")
    (top / "code" / "run.sh").write_text("#!/bin/sh\n")
    (top / "code" / "run.sh").chmod(0o755)
    (top / "weights.bin").write_bytes(os.urandom(3 << 20))
    (top / "empty").touch()
    (top / "no files").mkdir()
    (top / "grüße").write_text("x")
    (top / "latest").symlink_to("weights.bin")
    (top / "code" / "up").symlink_to("../weights.bin")
    os.link(top / "weights.bin", top / "same.bin")
    return top


def same(out, model):
    for folder, folders, files in os.walk(model):
        there = os.path.join(out, os.path.relpath(folder, model))
        assert sorted(os.listdir(there)) == sorted(folders + files)
        for name in files:
            one, other = os.path.join(folder, name), os.path.join(there, name)
            if os.path.islink(one):
                assert os.readlink(one) == os.readlink(other)
            else:
                with open(one, "rb") as left, open(other, "rb") as right:
                    assert left.read() == right.read(), name
                assert os.stat(one).st_mode & 0o100 == os.stat(other).st_mode & 0o100


def unpacked(archive, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for _ in unpack(str(archive), str(out), LIMITS):
        pass
    return out


@NEEDS_TAR
@pytest.mark.parametrize("form", ["gnu", "oldgnu", "pax", "ustar", "v7"])
def test_what_tar_packs(model, tmp_path, form):
    if form not in ("v7", "ustar"):
        (model / ("n" * 60) / ("m" * 60)).mkdir(parents=True)
        (model / ("n" * 60) / ("m" * 60) / ("o" * 200)).write_text("long")
        (model / "far").symlink_to("n" * 60 + "/" + "m" * 60 + "/" + "o" * 200)
    archive = tmp_path / "model.tar.gz"
    command = ["tar", "-czf", str(archive), f"--format={form}", "-C", str(model), "."]
    subprocess.run(command, check=True)
    same(unpacked(archive, tmp_path), model)


@NEEDS_TAR
def test_names_without_a_dot_and_a_folder_above(model, tmp_path):
    archive = tmp_path / "model.tar"
    subprocess.run(["tar", "-cf", str(archive), "-C", str(tmp_path), "model"], check=True)
    same(unpacked(archive, tmp_path) / "model", model)


@NEEDS_TAR
def test_the_same_file_named_twice(model, tmp_path):
    archive = tmp_path / "model.tar"
    names = ["weights.bin", "weights.bin"]
    subprocess.run(["tar", "-cf", str(archive), "-C", str(model), *names], check=True)
    assert os.listdir(unpacked(archive, tmp_path)) == ["weights.bin"]


@NEEDS_TAR
def test_extended_attributes_pass(model, tmp_path):
    archive = tmp_path / "model.tar.gz"
    command = ["tar", "-czf", str(archive), "--format=pax", "--pax-option=comment=hello"]
    subprocess.run([*command, "-C", str(model), "."], check=True)
    same(unpacked(archive, tmp_path), model)


@NEEDS_ZIP
def test_what_zip_packs(model, tmp_path):
    archive = tmp_path / "model.zip"
    command = ["zip", "-q", "-r", "--symlinks", str(archive), "."]
    subprocess.run(command, check=True, cwd=model)
    same(unpacked(archive, tmp_path), model)
