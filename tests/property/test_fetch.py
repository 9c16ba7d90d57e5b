"""Laws of fetching: whatever is cut, replaced or restarted, what comes out is one version."""

import asyncio
import os
import tempfile
from pathlib import Path

from fakes.clock import run_virtual
from fakes.flaky_stores import FlakyStorage
from hypothesis import given, settings
from hypothesis import strategies as st

from hostler.core import HostlerError
from hostler.repository import Config, Fetcher, ModelSource

URL = "s3://bucket/model.bin"
VERSIONS = [os.urandom(9000 + 1000 * i) for i in range(4)]


@given(
    cuts=st.lists(st.integers(-1, 12_000), max_size=12),
    replaced_at=st.lists(st.integers(0, 8), max_size=3),
    attempts=st.integers(1, 3),
    plain=st.booleans(),
)
@settings(max_examples=60)
def test_two_versions_are_never_joined(cuts, replaced_at, attempts, plain):
    async def scenario(folder):
        storage = FlakyStorage()
        versions = iter(VERSIONS[1:])

        def publish(body):
            storage.set(URL, body, None if plain else f'"{hash(body) & 0xFFFF:x}-2"')

        publish(VERSIONS[0])
        store = storage.store(URL)
        store.cuts = list(cuts)
        for restart in range(8):
            config = Config(archive_cache_dir=str(folder), fetch_attempts_max=attempts)
            fetcher = Fetcher(config, storage, asyncio.get_running_loop())
            if restart in replaced_at:
                store.midway = lambda: publish(next(versions, VERSIONS[-1]))
            try:
                fetched = await fetcher.fetch(ModelSource(URL, compressed=False), lambda _: None)
            except HostlerError:
                await fetcher.close()
                continue
            assert (fetched.folder / "model.bin").read_bytes() in VERSIONS
            assert (fetched.folder / "model.bin").read_bytes() == store.objects["model.bin"][0]
            await fetcher.close()

    with tempfile.TemporaryDirectory() as folder:
        run_virtual(scenario(Path(folder)))
