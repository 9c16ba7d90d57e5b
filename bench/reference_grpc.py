"""The bare reference: grpc.aio on uvloop, answering each call with the message that it brought.

Nothing is parsed, checked or computed: no server on this library can do less for a call.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import Any

import grpc
import uvloop
from grpc import aio


async def echo(message: bytes, call: Any) -> bytes:
    """The same bytes."""
    return message


class Echo:
    """Every path is an echo; see grpc.GenericRpcHandler."""

    handler = grpc.unary_unary_rpc_method_handler(echo)

    def service(self, details: Any) -> Any:
        """The one handler there is."""
        return self.handler


async def serve(port: int) -> None:
    """Until SIGTERM."""
    server = aio.server(handlers=(Echo(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().port))
