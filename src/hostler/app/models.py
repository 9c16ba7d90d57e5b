"""One model for a job, from wherever it is: a folder, a file, an archive, a repository."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from hostler.app.build import build_repository, build_serving, by_hand
from hostler.config import Settings
from hostler.control import StoredModels
from hostler.core import Clock, Code, Context, HostlerError, Report
from hostler.repository import Fetcher
from hostler.serving import Serving
from hostler.storage import Storage

__all__ = ["JobModels", "ModelAsk"]

_ARCHIVES: Final = (".tar.gz", ".tgz", ".tar", ".zip")
_HOSTED: Final = "transform/model"
_PIECE_BYTES: Final = 1 << 20
_BATCH_S: Final = 0.2  # nobody waits for a batch to end; short ones leave cores idle between them


class ModelAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Which model.

    `model`: a folder or file, an archive (`model.tar.gz`), a URL of one in a store, or with
    `repository` the name of a model there. `image`, `environment`: of a SageMaker container, where
    it is read as one. `instances`: replicas, a factor of what the package says.
    """

    model: str
    repository: tuple[str, ...] = ()
    image: str = ""
    environment: dict[str, str] = {}
    instances: int = 1


class JobModels:
    """The one model of a process that serves nobody else, from `start` to `close`."""

    def __init__(
        self, settings: Settings, ask: ModelAsk, storage: Storage, clock: Clock, report: Report
    ) -> None:
        self._settings = settings
        self._ask = ask
        self._report = report
        self._is_package = _is_package(ask)
        paths = [] if self._is_package else [Path(path) for path in ask.repository or (ask.model,)]
        self._repository = build_repository(settings, paths)
        self.serving: Serving = build_serving(_for_work(settings), self._repository)
        self._fetcher = Fetcher(settings.repository, storage, clock)

    async def start(self) -> tuple[Sequence[str], str]:
        """Load it: the names to ask it by, and the token of its content.

        Raises: HostlerError that says what is not there or why it cannot be loaded.
        """
        await self.serving.start()
        name = await self._hosted() if self._is_package else await self._named()
        context = Context()
        if "/" in name:
            live = await self.serving.acquire_hosted(name, context)
        else:
            live = await self.serving.acquire(name, None, context)
        try:
            content, version = live.spec.fingerprint, live.version
        finally:
            live.release()
        if path := _path(self._ask):  # a fingerprint has times of files, which copies do not share
            content = await asyncio.to_thread(_digest, path, self._settings.repository.files_max)
        facts = repr((content, version, self._ask.image, sorted(self._ask.environment.items())))
        return [name], hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    async def close(self) -> None:
        """Free everything."""
        await self.serving.stop(self._settings.serving.drain_timeout_s)
        await self._fetcher.close()
        self._repository.close()

    async def _named(self) -> str:
        ask = self._ask
        names = sorted({status.name for status in self.serving.index()})
        if ask.repository:
            name = ask.model
        elif len(names) == 1:
            [name] = names
        else:
            listed = ", ".join(f"'{name}'" for name in names[:10]) or "none"
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"{ask.model} holds {len(names)} models ({listed}); name one, as in hostler "
                f"transform {names[0] if names else 'NAME'} --repository {ask.model}",
            )
        self._report(f"loading {name}")
        await self.serving.load(name)
        return name

    async def _hosted(self) -> str:
        """An archive, or what only a container would make sense of."""
        ask, config = self._ask, self._settings.control
        definition = {
            "Image": ask.image,
            "Environment": dict(ask.environment),
            "ModelDataUrl": _url(ask.model),
        }
        opened = await StoredModels(self._fetcher, self._settings.repository).open(
            _HOSTED, definition, ask.instances, config.download_timeout_s, self._report
        )
        await self.serving.equip(opened.packages, self._report)
        self._report(f"loading {ask.model}")
        await self.serving.host(opened.packages)
        await self.serving.warm(opened.entry)
        return opened.entry


def _for_work(settings: Settings) -> Settings:
    """Nothing is loaded unless it is asked for, and there is always something to compute."""
    longer_s = max(settings.scheduler.background_batch_s, _BATCH_S)
    return msgspec.structs.replace(
        by_hand(settings),
        placement=msgspec.structs.replace(settings.placement, lanes=True),
        scheduler=msgspec.structs.replace(settings.scheduler, background_batch_s=longer_s),
    )


def _is_package(ask: ModelAsk) -> bool:
    """Whether it is read as SageMaker's containers are, not as a model repository."""
    if ask.repository:
        return False
    if ask.image or "://" in ask.model or ask.model.endswith(_ARCHIVES):
        return True
    path = Path(ask.model)
    scripts = (path / "code", path / "inference.py", path / "MLmodel", path / "serving.properties")
    return path.is_dir() and any(script.exists() for script in scripts)


def _url(model: str) -> str:
    return model if "://" in model else f"file://{quote(str(Path(model).resolve()))}"


def _path(ask: ModelAsk) -> Path | None:
    """Where a model's files are on the disk, if they are."""
    found = [Path(folder, ask.model) for folder in ask.repository]
    if not ask.repository and "://" not in ask.model:
        found = [Path(ask.model)]
    return next((path for path in found if path.exists()), None)


def _digest(path: Path, files_max: int) -> str:
    """Of the names and contents of all files. Raises: RESOURCE_EXHAUSTED for too many."""
    digest = hashlib.blake2b(digest_size=16)
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    if len(files) > files_max:
        raise HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f"{path} has {len(files)} files, more than the {files_max} of repository.files_max",
        )
    for file in files:
        digest.update(f"{file.relative_to(path.parent)}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as source:
            while piece := source.read(_PIECE_BYTES):
                digest.update(piece)
    return digest.hexdigest()
