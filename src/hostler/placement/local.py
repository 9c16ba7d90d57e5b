"""Placement on this machine: what runs in this process and what gets worker processes."""

from __future__ import annotations

from hostler.core import Clock, Code, CustomMetrics, HostlerError, ModelSpec, PreparedModel
from hostler.placement.config import Config
from hostler.placement.host import usable_cores
from hostler.placement.process import Config as ProcessConfig
from hostler.placement.process import ProcessPlacement
from hostler.runtimes import RUNTIMES

__all__ = ["LocalPlacement"]


class LocalPlacement:
    """See `core.Placement`. `metrics`: takes what models in workers count themselves."""

    def __init__(
        self,
        config: Config,
        process: ProcessConfig,
        clock: Clock,
        metrics: CustomMetrics | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._workers = ProcessPlacement(process, clock, metrics=metrics)

    async def prepare(self, spec: ModelSpec) -> PreparedModel:
        """See `core.Placement`."""
        runtime = RUNTIMES.get(spec.runtime)
        if runtime is None:
            raise HostlerError(
                Code.UNIMPLEMENTED,
                f"model '{spec.label}' needs the runtime '{spec.runtime}'; there are "
                f"{', '.join(RUNTIMES)}",
            )
        if not runtime.in_process:
            return await self._workers.prepare(spec)
        # Here, because onnxruntime costs 0.1 s and 30 MB that a server without ONNX need not pay.
        from hostler.placement.in_process import prepare_onnx  # noqa: PLC0415

        return await prepare_onnx(
            spec,
            self._clock,
            cores=self._config.compute_threads or usable_cores(),
            inline_s_max=self._config.inline_s_max,
            lanes=self._config.lanes,
        )
