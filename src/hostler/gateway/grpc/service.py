"""Handlers of inference.GRPCInferenceService but for the stream: a message in, a message out.

Errors are raised; `Calls` turns them into a status in one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import hostler
from hostler.core import Code, Context, HostlerError
from hostler.gateway.grpc.calls import Call, Unary
from hostler.gateway.grpc.entry import allow
from hostler.gateway.grpc.gather import Gather
from hostler.gateway.ports import Live, Serving
from hostler.gateway.shared import Shared
from hostler.gateway.statistics import OFF_LOOP_ROWS, statistics_rows
from hostler.protocols import oip
from hostler.protocols.oip import grpc as wire
from hostler.repository import Override

__all__ = ["InferenceService"]

_DECOUPLED: Final = (
    "ModelInfer RPC doesn't support models with decoupled transaction policy; use ModelStreamInfer"
)


class InferenceService:
    """`handlers`: by the name of the RPC."""

    def __init__(self, serving: Serving, shared: Shared) -> None:
        self._serving = serving
        self._hold = Gather(shared.rpcs).hold
        self._memory = shared.memory
        self._regions: oip.Regions | None = shared.memory if shared.memory.offered else None
        self._settings = shared.settings
        self._name = shared.name
        self._guarded = shared.access is not None
        self.handlers: Mapping[str, Unary] = {
            "ModelInfer": self.infer,
            "ServerLive": self.live,
            "ServerReady": self.ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.metadata,
            "ModelConfig": self.config,
            "ModelStatistics": self.statistics,
            "RepositoryIndex": self.index,
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
            "SystemSharedMemoryStatus": self.memory_status,
            "SystemSharedMemoryRegister": self.memory_register,
            "SystemSharedMemoryUnregister": self.memory_unregister,
            "CudaSharedMemoryStatus": self.cuda_status,
            "CudaSharedMemoryRegister": self.cuda_register,
            "CudaSharedMemoryUnregister": self.cuda_unregister,
            "TraceSetting": self.trace_setting,
            "LogSettings": self.log_settings,
        }

    async def infer(self, message: bytes, call: Call, deadline: float) -> bytes:
        """ModelInfer."""
        asked = wire.parse_infer(message)
        principal = allow(asked.model) if self._guarded else None
        version = wire.parse_version(asked.model, asked.version) if asked.version else None
        live = self._serving.live(asked.model, version)
        if live is None:
            live = await self._acquire(asked.model, version, deadline)
        else:
            live.pin()
        try:
            if live.spec.decoupled:
                raise HostlerError(Code.UNIMPLEMENTED, _DECOUPLED)
            request = wire.decode_infer(asked, self._regions)
            context = request.context
            context.deadline = deadline
            context.principal = principal
            held = self._hold()
            try:
                if held is not None:
                    await held
                response = await live.infer(request)
            except asyncio.CancelledError:
                context.cancel()  # the client has gone, or its deadline has passed
                raise
            parts = wire.encode_infer(response, request, live.name, live.version, live.signature)
            return b"".join(parts)
        finally:
            live.release()

    async def live(self, message: bytes, call: Call, deadline: float) -> bytes:
        """ServerLive."""
        return wire.live_answer(True)

    async def ready(self, message: bytes, call: Call, deadline: float) -> bytes:
        """ServerReady."""
        return wire.ready_answer(self._serving.ready())

    async def model_ready(self, message: bytes, call: Call, deadline: float) -> bytes:
        """ModelReady; of an unknown model the answer is no, as in Triton."""
        model, version = self._model(message)
        try:
            return wire.model_ready_answer(self._serving.model_ready(model, version))
        except HostlerError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            return wire.model_ready_answer(False)

    async def server_metadata(self, message: bytes, call: Call, deadline: float) -> bytes:
        """ServerMetadata."""
        promised = oip.extensions(shared_memory=self._regions is not None)
        return wire.server_metadata_answer(hostler.__version__, promised, self._name)

    async def metadata(self, message: bytes, call: Call, deadline: float) -> bytes:
        """ModelMetadata; loads the model if need be."""
        model, version = self._model(message)
        live = await self._acquire(model, version, deadline)
        try:
            return wire.model_metadata_answer(live.spec, self._serving.versions(model))
        finally:
            live.release()

    async def config(self, message: bytes, call: Call, deadline: float) -> bytes:
        """ModelConfig; loads the model if need be, since only then all of it is known."""
        live = await self._acquire(*self._model(message), deadline)
        try:
            return wire.model_config_answer(live.spec)
        finally:
            live.release()

    async def statistics(self, message: bytes, call: Call, deadline: float) -> bytes:
        """ModelStatistics, of all models where none is named."""
        rows = statistics_rows(self._serving, *self._model(message))
        if len(rows) <= OFF_LOOP_ROWS:
            return wire.model_statistics_answer(rows)
        return await asyncio.to_thread(wire.model_statistics_answer, rows)

    async def index(self, message: bytes, call: Call, deadline: float) -> bytes:
        """RepositoryIndex; all repositories share one space of names."""
        ready = wire.parse_index(message)
        rows = self._serving.index()
        if len(rows) <= OFF_LOOP_ROWS:
            return wire.repository_index_answer(rows, ready=ready)
        return await asyncio.to_thread(wire.repository_index_answer, rows, ready=ready)

    async def load(self, message: bytes, call: Call, deadline: float) -> bytes:
        """RepositoryModelLoad; answers when the model is ready."""
        model, config, files = wire.parse_load(message)
        allow(model)
        # Without parameters this is an empty override: back to what the package says, as in Triton.
        await self._serving.load(model, Override(config=config, files=files))
        return wire.EMPTY

    async def unload(self, message: bytes, call: Call, deadline: float) -> bytes:
        """RepositoryModelUnload; answers when its memory is free."""
        model, dependents = wire.parse_unload(message)
        allow(model)
        await self._serving.unload(model, unload_dependents=dependents)
        return wire.EMPTY

    # -- shared memory and settings --------------------------------------------------------

    async def memory_status(self, message: bytes, call: Call, deadline: float) -> bytes:
        """SystemSharedMemoryStatus."""
        return wire.memory_status_answer(self._memory.status(wire.parse_region(message)))

    async def memory_register(self, message: bytes, call: Call, deadline: float) -> bytes:
        """SystemSharedMemoryRegister."""
        self._memory.register(*wire.parse_memory_register(message))
        return wire.EMPTY

    async def memory_unregister(self, message: bytes, call: Call, deadline: float) -> bytes:
        """SystemSharedMemoryUnregister."""
        self._memory.unregister(wire.parse_region(message))
        return wire.EMPTY

    async def cuda_status(self, message: bytes, call: Call, deadline: float) -> bytes:
        """CudaSharedMemoryStatus: there are no regions."""
        oip.check_cuda_region(wire.parse_region(message))
        return wire.EMPTY

    async def cuda_register(self, message: bytes, call: Call, deadline: float) -> bytes:
        """CudaSharedMemoryRegister."""
        raise oip.cuda_refusal(wire.parse_region(message))

    async def cuda_unregister(self, message: bytes, call: Call, deadline: float) -> bytes:
        """CudaSharedMemoryUnregister: there is nothing to clean up, so that succeeds."""
        wire.parse_region(message)
        return wire.EMPTY

    async def trace_setting(self, message: bytes, call: Call, deadline: float) -> bytes:
        """TraceSetting: changes what is named, shows all."""
        model, changes = wire.parse_trace_setting(message)
        allow(model, changes=bool(changes))
        if model:
            self._serving.model_ready(model, None)  # raises for an unknown one
        settings = self._settings
        if changes:
            return wire.trace_setting_answer(settings.update_trace_settings(changes, model))
        return wire.trace_setting_answer(settings.trace_settings(model))

    async def log_settings(self, message: bytes, call: Call, deadline: float) -> bytes:
        """LogSettings: changes what is named, shows all."""
        changes = wire.parse_log_settings(message)
        allow(changes=bool(changes))
        return wire.log_settings_answer(self._settings.update_log_settings(changes))

    # -- models ----------------------------------------------------------------------------

    def _model(self, message: bytes) -> tuple[str, int | None]:
        """What a message asks about, if that is allowed. Raises: also PERMISSION_DENIED."""
        model, version = wire.parse_model(message)
        allow(model)
        return model, wire.parse_version(model, version)

    async def _acquire(self, model: str, version: int | None, deadline: float) -> Live:
        """A pinned model; a client that leaves meanwhile cancels its wait, not the load."""
        return await self._serving.acquire(model, version, Context(deadline=deadline))
