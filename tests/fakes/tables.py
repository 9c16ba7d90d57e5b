"""Table jobs of one process: files below a folder, and a model that answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from fakes.clock import FakeClock
from fakes.transform import HANDS

from hostler.core import (
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
    datatype_named,
)
from hostler.jobs.config import Config
from hostler.jobs.transform.plan import Errors, Input, Output, Plan, Table
from hostler.jobs.transform.ports import ObjectRef, Outcome, Payload, Prediction, Site, Task
from hostler.jobs.transform.progress import Progress
from hostler.jobs.transform.table import TablePipe
from hostler.jobs.transform.window import Window
from hostler.storage import Config as StorageConfig
from hostler.storage import Storage

__all__ = ["TableJob", "TensorModel", "spec"]


def spec(name: str, datatype: str, *dims: int, optional: bool = False) -> TensorSpec:
    return TensorSpec(name, datatype_named(datatype), dims, optional)


class TensorModel:
    """Answers each output with the input in its place, or as `answer` says.

    `signature`: raised if it is an error. `bad`: requests that get MODEL_ERROR. `failures`: raised
    before that, one a call. `asked`: rows of each request, in order. `at_once`: most in one call.
    """

    def __init__(
        self,
        signature: Signature | HostlerError | None,
        answer: Callable[[InferRequest], list[Tensor]] | None = None,
        bad: Callable[[InferRequest], bool] = lambda request: False,
        failures: Sequence[HostlerError] = (),
    ) -> None:
        self._signature = signature if isinstance(signature, Signature) else None
        self._refusal = signature if isinstance(signature, HostlerError) else None
        self._answer = answer or self._echo
        self._bad = bad
        self._failures = list(failures)
        self.asked: list[int] = []
        self.at_once = 0

    async def signature(self) -> Signature | None:
        if self._refusal is not None:
            raise self._refusal
        return self._signature

    async def ask(
        self, payloads: Sequence[Payload], timeout_s: float
    ) -> list[Prediction | HostlerError]:
        raise AssertionError("tables are no payloads")

    async def infer(
        self, requests: Sequence[InferRequest], timeout_s: float
    ) -> list[InferResponse | HostlerError]:
        await asyncio.sleep(0)
        self.at_once = max(self.at_once, len(requests))
        if self._failures:
            raise self._failures.pop(0)
        return [self._one(request) for request in requests]

    def _one(self, request: InferRequest) -> InferResponse | HostlerError:
        assert self._signature is not None
        rows, _ = self._signature.check_inputs(request.inputs, "model")
        self.asked.append(rows)
        if self._bad(request):
            return HostlerError(Code.MODEL_ERROR, "the model does not like it")
        return InferResponse(self._answer(request))

    def _echo(self, request: InferRequest) -> list[Tensor]:
        assert self._signature is not None
        pairs = zip(self._signature.outputs, request.inputs.values(), strict=True)
        return [Tensor(out.name, out.datatype, one.shape, one.data) for out, one in pairs]


class TableJob:
    """Runs tables that are put into `folder`."""

    def __init__(self, folder: Path, model: TensorModel, table: Table, **plan: object) -> None:
        self.folder = folder
        self.model = model
        self.progress = Progress()
        (folder / "in").mkdir(exist_ok=True)
        (folder / "out").mkdir(exist_ok=True)
        errors = Errors(skip=bool(plan.pop("skip", False)), records_max=plan.pop("bad_max", None))
        gzip = bool(plan.pop("gzip", False))
        self.plan = Plan(
            name="job",
            input=Input(url=f"file://{folder}/in/", gzip=gzip),
            output=Output(url=f"file://{folder}/out/"),
            errors=errors,
            table=table,
            **plan,
        )
        self.window = Window(1 << 24, 4)
        self._stores = Storage(StorageConfig(), {})
        site = Site(self._stores, Config(), FakeClock())
        self._pipe = TablePipe(self.plan, model, site, self.window, self.progress, HANDS)

    async def task(self, *names: str, output: str = "result") -> Task:
        _, key = self._stores.open(f"file://{self.folder}/out/{output}")
        return Task(key=key, inputs=tuple([await self._ref(name) for name in names]))

    async def _ref(self, name: str) -> ObjectRef:
        url = f"file://{self.folder}/in/{name}"
        store, key = self._stores.open(url)
        found = await store.stat(key)
        return ObjectRef(url=url, key=key, name=name, size=found.size, etag=found.etag, modified=0)

    async def start(self, task: Task) -> Outcome:
        return await self._pipe.run(task)

    def run(self, *names: str, output: str = "result") -> Outcome:
        async def run() -> Outcome:
            return await self.start(await self.task(*names, output=output))

        outcome = asyncio.run(run())
        assert self.window.used == 0
        return outcome

    def output(self, name: str = "result") -> Path:
        return self.folder / "out" / name


def doubled(request: InferRequest) -> list[Tensor]:
    """One output `y`, FP32, of twice the first input."""
    one = next(iter(request.inputs.values()))
    data = np.asarray(one.numpy(), np.float32) * 2
    return [Tensor("y", datatype_named("FP32"), one.shape, data)]
