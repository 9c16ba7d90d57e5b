"""A load of gRPC calls from asyncio: `python -m bench.grpc_client PORT MESSAGE SECONDS IN_FLIGHT`.

Prints calls and seconds as JSON. A process of its own, so that its work is not the harness's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop
from grpc import aio

from bench.grpc_load import CONNECTIONS, PATH


async def load(port: int, message: bytes, seconds: float, in_flight: int) -> dict[str, float]:
    """Keep so many calls in flight over a few connections; any error ends it."""
    own = [("grpc.use_local_subchannel_pool", 1)]  # else all channels share one connection
    channels = [aio.insecure_channel(f"127.0.0.1:{port}", own) for _ in range(CONNECTIONS)]
    calls = 0
    end = time.monotonic() + seconds

    async def caller(channel: aio.Channel) -> None:
        nonlocal calls
        infer = channel.unary_unary(PATH)
        while time.monotonic() < end:
            await infer(message)
            calls += 1

    started = time.monotonic()
    await asyncio.gather(*(caller(channels[n % CONNECTIONS]) for n in range(in_flight)))
    took_s = time.monotonic() - started
    for channel in channels:
        await channel.close()
    return {"calls": calls, "seconds": took_s}


if __name__ == "__main__":
    port, path, seconds, in_flight = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(load(int(port), Path(path).read_bytes(), float(seconds), int(in_flight)))
    sys.stdout.write(json.dumps(found))
