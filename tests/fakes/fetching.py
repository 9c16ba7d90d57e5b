"""Fetchers over stores in memory, on a virtual loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from fakes.flaky_stores import FlakyStorage
from fakes.packed import member, tar_bytes

from hostler.repository import Config, Fetcher, ModelSource

URL = "s3://bucket/models/a.tar.gz"


def archive(content=b"weights", **more):
    """An archive of one model; `more`: files by name."""
    files = {"model.onnx": content, **more}
    return tar_bytes(*(member(name, content=body) for name, body in files.items()))


@dataclass
class Fetching:
    """One fetcher at a time, as a server has; `again` is another server, or the same later."""

    folder: Path
    storage: FlakyStorage = field(default_factory=FlakyStorage)
    lines: list[str] = field(default_factory=list)

    def again(self, **settings) -> Fetcher:
        config = Config(archive_cache_dir=str(self.folder), **settings)
        return Fetcher(config, self.storage, asyncio.get_running_loop())

    def get(self, fetcher, url=URL, **source):
        timeout_s = source.pop("timeout_s", 3600)
        return fetcher.fetch(ModelSource(url, **source), self.lines.append, timeout_s)

    def left(self, suffix=""):
        """Names in the cache folder, but for locks."""
        if not self.folder.exists():
            return []
        names = [path.name for path in self.folder.iterdir() if path.suffix != ".lock"]
        return sorted(name for name in names if name.endswith(suffix))
