"""Wheels made by tests, so that pip needs no network."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

LEFT_OUT = ("/tests/", ".pyi", ".pyc", ".a", "/include/")


def make_wheel(folder: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """A pure Python wheel of these files, and the path it was written to."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    whole = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in whole.items():
            wheel.writestr(inside, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{p},,\n" for p in [*whole, f"{info}/RECORD"]))
    return path


def numpy_wheel(folder: Path) -> Path:
    """The numpy of the Python that runs the tests, as a wheel again, without its tests."""
    folder.mkdir(parents=True, exist_ok=True)
    numpy = distribution("numpy")
    info = f"numpy-{numpy.version}.dist-info"
    kept = [
        file
        for file in numpy.files or ()
        if not str(file).startswith("..")
        and not any(part in str(file) for part in LEFT_OUT)
        and (not str(file).startswith(info) or file.name in ("METADATA", "WHEEL"))
    ]
    tag = next(
        line.split()[1]
        for line in (numpy.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag:")
    )
    path = folder / f"numpy-{numpy.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file in kept:
            wheel.write(Path(str(numpy.locate_file(file))), str(file))
        wheel.writestr(f"{info}/RECORD", "".join(f"{p},,\n" for p in [*kept, f"{info}/RECORD"]))
    return path
