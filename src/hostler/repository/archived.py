"""Archives that hold models as our own repositories do, and as Triton's.

    config.pbtxt, 1/model.onnx                 one model
    resnet/config.pbtxt, resnet/1/...          a repository of one or several
    models/resnet/1/...                        one, in a single top folder
    digits.onnx                                bare files, where the reader is `hostler`

One model answers and the others are there for it: as steps of an ensemble, or asked by its code.
"""

from __future__ import annotations

import hashlib
import logging
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final

from hostler.core import EnsemblePlan, HostlerError, ModelSpec
from hostler.repository.entries import Entry, list_entries, only_entry, tree_of
from hostler.repository.formats import TRITON, single_file, triton
from hostler.repository.formats.opaque import fingerprint
from hostler.repository.package import Package, contradiction
from hostler.repository.platforms import MODEL_FILES
from hostler.repository.reading import ContainerPackages, Reading
from hostler.repository.source import Source

__all__ = ["DEFAULT_MODEL", "detect", "detect_bare", "read", "read_any", "read_behind"]

DEFAULT_MODEL: Final = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"
"""Source: docker/sagemaker/serve of triton-inference-server/server."""

_log = logging.getLogger("hostler.repository")


def detect(reading: Reading) -> bool:
    """Whether models lie in it as in a Triton repository."""
    return _root(reading.paths, bare=False) is not None


def detect_bare(reading: Reading) -> bool:
    """Whether a file lies at the top that needs nothing beside it: x.onnx, x.pt2."""
    return any("/" not in path and path.endswith((".onnx", ".pt2")) for path in reading.paths)


def read(reading: Reading) -> ContainerPackages:
    """The models of a Triton repository. Raises: INVALID_ARGUMENT, UNIMPLEMENTED; OSError."""
    return _read(reading, bare=False)


def read_any(reading: Reading) -> ContainerPackages:
    """As `read`, bare model files included."""
    return _read(reading, bare=True)


def read_behind(reading: Reading) -> ContainerPackages:
    """As `read_any`, for a model that asks the one that answers: all are called `<entry>/<model>`.

    The entry of what is given is the one to be asked.
    """
    return _read(reading, bare=True, behind=True)


def _read(reading: Reading, *, bare: bool, behind: bool = False) -> ContainerPackages:
    root = _root(reading.paths, bare=bare)
    if root is None:
        files = ", a file ending in " + ", ".join(single_file.SUFFIXES) if bare else ""
        raise reading.wrong(
            "the archive holds no model repository; looked for config.pbtxt or a version folder "
            f"with {', '.join(MODEL_FILES)}{files}, at the top or in folders of at most two levels"
        )
    found = _packages(reading, root, bare=bare)
    entry = _entry(reading, found)
    names = {
        local: reading.name if local == entry and not behind else f"{reading.name}/{local}"
        for local in found
    }
    packages: list[Package] = []
    lost: dict[str, HostlerError] = {}
    for local in sorted(found, key=lambda local: (local != entry, local)):
        try:
            package = _hosted(reading, found[local], names)
        except HostlerError as error:
            if local == entry:
                raise
            # It may be of no use to the model that answers; Triton would serve that one, too.
            lost[names[local]] = error
            event = {"model": names[local], "reason": error.message}
            _log.warning("repository.sibling_ignored", extra={"event": event})
        else:
            packages.append(package)
    for step in _steps(packages):
        if step in lost:
            raise lost[step]
    return ContainerPackages(names[entry], tuple(packages))


# -- where they lie ------------------------------------------------------------------------


def _root(paths: Set[str], *, bare: bool) -> str | None:
    """The folder to read, with a slash at its end, "" for the archive's own; None if there is none.

    A folder counts if it is a model or holds some.
    """
    if _holds_models(paths, "", bare=bare):
        return ""
    tops = sorted({path.partition("/")[0] for path in paths if "/" in path})
    holding = [f"{top}/" for top in tops if _holds_models(paths, f"{top}/", bare=bare)]
    return holding[0] if len(holding) == 1 else None


def _holds_models(paths: Set[str], folder: str, *, bare: bool) -> bool:
    for path in paths:
        if not path.startswith(folder):
            continue
        parts = path[len(folder) :].split("/")
        if _is_model(parts) or _is_model(parts[1:]):
            return True
        if bare and len(parts) == 1 and parts[0].endswith((*single_file.SUFFIXES, "model.py")):
            return True
    return False


def _is_model(parts: Sequence[str]) -> bool:
    """Whether a file at this place makes the folder, from which the parts count, a model."""
    if parts == ["config.pbtxt"]:
        return True
    return len(parts) == 2 and triton.version_of(parts[0]) is not None and parts[1] in MODEL_FILES


# -- reading them --------------------------------------------------------------------------


def _packages(reading: Reading, root: str, *, bare: bool) -> dict[str, Package]:
    """All models by the names they have among themselves."""
    folder = str(reading.folder / root)
    packages = {}
    for name, entries in list_entries([folder], reading.config).items():
        try:
            entry = only_entry(name, entries)
            if entry.format is None or (entry.format is not TRITON and not bare):
                continue
            source = _source(reading, entry, is_root=_same(entry.item.path, folder))
            name = source.name  # noqa: PLW2901 - a model at the top has the name it says
            packages[name] = Package(name, entry.format.read(source))
        except HostlerError as error:
            packages[name] = Package(name, error=error)
    return packages


def _same(path: str, other: str) -> bool:
    return posixpath.normpath(path) == posixpath.normpath(other)


def _source(reading: Reading, entry: Entry, *, is_root: bool) -> Source:
    source = Source(entry.name, entry.item, tree_of(entry), reading.config)
    if not is_root or entry.format is not TRITON:
        return source
    # Its folder is the archive's, whose name says nothing.
    stated = triton.own_config(source)
    name = stated.config["name"] or reading.variable(DEFAULT_MODEL) or "model"
    return replace(source, name=name, stated=stated)


def _entry(reading: Reading, found: Mapping[str, Package]) -> str:
    """The model that answers: the one that is asked for, the only one, or the only ensemble."""
    wanted = reading.variable(DEFAULT_MODEL)
    listed = ", ".join(f"'{name}'" for name in sorted(found))
    if wanted:
        if wanted not in found:
            raise reading.wrong(
                f"{DEFAULT_MODEL} is '{wanted}', and the archive holds {listed or 'no model'}"
            )
        return wanted
    if len(found) == 1:
        return next(iter(found))
    asked = set(_steps(found.values()))
    ensembles = [
        name
        for name, package in found.items()
        if name not in asked and any(spec.ensemble is not None for spec in package.versions)
    ]
    if len(ensembles) == 1:
        return ensembles[0]
    raise reading.wrong(
        f"the archive holds {len(found)} models, {listed}; name the one that answers in the "
        f"container's environment, {DEFAULT_MODEL}"
    )


def _steps(packages: Iterable[Package]) -> Iterator[str]:
    """The models that ensembles ask."""
    for package in packages:
        for spec in package.versions:
            if spec.ensemble is not None:
                yield from (step.model for step in spec.ensemble.steps)


# -- under their new names -----------------------------------------------------------------


def _hosted(reading: Reading, package: Package, names: Mapping[str, str]) -> Package:
    """The package under the name by which it is hosted. Raises: its own error."""
    if package.error is not None:
        raise package.error
    name = names[package.name]
    return Package(name, tuple(_renamed(reading, spec, names) for spec in package.versions))


def _renamed(reading: Reading, spec: ModelSpec, names: Mapping[str, str]) -> ModelSpec:
    count = reading.instances
    config: dict[str, Any] = {**spec.config, "name": names[spec.name]}
    config["instance_group"] = [
        {**group, "count": group["count"] * count} for group in config["instance_group"]
    ]
    ensemble = spec.ensemble
    if ensemble is not None:
        _check_steps(spec.name, ensemble, names)
        steps = tuple(replace(step, model=names[step.model]) for step in ensemble.steps)
        ensemble = replace(ensemble, steps=steps)
        scheduling = config["ensemble_scheduling"]
        stated = [{**s, "model_name": names[s["model_name"]]} for s in scheduling["step"]]
        config["ensemble_scheduling"] = {**scheduling, "step": stated}
    return replace(
        spec,
        name=names[spec.name],
        config=config,
        ensemble=ensemble,
        instances=tuple(replace(group, count=group.count * count) for group in spec.instances),
        fingerprint=_fingerprint(reading, spec),
        variables=reading.variables,
    )


def _check_steps(model: str, plan: EnsemblePlan, names: Mapping[str, str]) -> None:
    """An archive is whole: its ensembles do not reach out of it."""
    for index, step in enumerate(plan.steps):
        if step.model not in names:
            listed = ", ".join(f"'{name}'" for name in names)
            text = f"the archive has no such model; it holds {listed}"
            raise contradiction(model, plan.place(index), text)


def _fingerprint(reading: Reading, spec: ModelSpec) -> str:
    """As `opaque.fingerprint`, for each model by itself."""
    facts = (fingerprint(reading), spec.name, spec.version)
    return hashlib.blake2b(repr(facts).encode("utf-8", "replace"), digest_size=16).hexdigest()
