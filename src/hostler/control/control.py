"""The control plane as the gateway sees it: a request of a JSON 1.1 service -> an answer.

Nothing is opened or loaded before it is needed: the store with the first valid call, or at the
start where an earlier run has left something; botocore with the first call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from hostler.control.alarms import check_table
from hostler.control.config import Config
from hostler.control.operations import SERVICES, Desk, Names, Outcome, Row, Served
from hostler.control.ports import ENDPOINT, MODEL, TRANSFORM_JOB, Driver, Known, Observed
from hostler.control.records import Document
from hostler.control.rows import blocking
from hostler.core import Clock, Code, HostlerError
from hostler.protocols.sagemaker import (
    JSON_1_1,
    Arns,
    AwsAnswer,
    Service,
    control_error,
    load_service,
)
from hostler.storage import Resources

__all__ = ["Allow", "Control"]

log = logging.getLogger("hostler.control")

Allow = Callable[[str, str], str | None]
"""(action, resource: an ARN, `*` or `model/<name>`) -> the name of who asks, None where nobody is
asked who he is. Raises: PERMISSION_DENIED."""

Loading = Callable[[Callable[[], Any]], Any]
"""Calls what it is given, and gives what that gives."""

_NAME_MAX: Final = 128
_INFER: Final = "hostler:Infer"
"""What it takes to ask a model of the repository; see docs/access.md."""
_ALL: Final = "*"
"""Stands for endpoints whose names are not known yet."""

_PAUSE_FIRST_S: Final = 1.0
_PAUSE_MAX_S: Final = 30.0
_LOOK_S: Final = 0.02
_STOP_S: Final = 2.0  # after which nobody waits for the store any more
_UNSURE: Final = (Code.UNAVAILABLE, Code.INTERNAL)
"""Errors of operations of which nobody knows whether they have written."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the first call, or a start with something to go on with, has opened."""

    desk: Desk
    driver: Driver


class Control:
    """SageMaker's control plane, and Application Auto Scaling's for its variants.

    Everything is called on the loop; what blocks runs in threads. `open_store`: blocking, called
    once it is needed. `new_driver`: of that store. `check_image`: the reader that a container
    image stands for, "" for none. `check_url`: see `Desk`; set it before `start`. `is_served`:
    whether the server's own repository has a model of this name; set it, too. `loading`: runs, in a
    thread, what loads libraries; set it to know what they take. `resume`: an earlier run may have
    left endpoints or jobs, so that the store is opened at the start. Raises: INVALID_ARGUMENT for a
    setting `control.alarms` that holds what is no alarm.
    """

    def __init__(
        self,
        config: Config,
        open_store: Callable[[], Resources],
        new_driver: Callable[[Resources], Driver],
        clock: Clock,
        check_image: Callable[[str], str],
        resume: bool = False,
    ) -> None:
        check_table(config.alarms)
        self._config = config
        self._open_store = open_store
        self._new_driver = new_driver
        self._clock = clock
        self._check_image = check_image
        self.check_url: Callable[[str], None] = lambda _: None
        self.is_served: Callable[[str], bool] = lambda _: False
        self._resume = resume
        self._arns = Arns(config.region, config.account_id)
        self._services: dict[str, Service] = {}
        self._loading = asyncio.Lock()
        self._opening: asyncio.Task[_Opened] | None = None
        self._opened: _Opened | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[Outcome]] = set()
        self._stopped = False
        self._problem = ""
        self.loading: Loading = _plainly

    @property
    def resuming(self) -> bool:
        """Endpoints of an earlier run have not been looked at: one that is unknown may be there."""
        if not self._resume:
            return False
        if self._resuming is None or not self._resuming.done():
            return True
        return self._opened is not None and self._opened.driver.settling

    @property
    def problem(self) -> str:
        """Why what an earlier run has left cannot be opened, "" while nothing is in the way."""
        return self._problem

    def endpoints(self) -> Mapping[str, Known]:
        """By name, all that are known; none before anything is opened."""
        return {} if self._opened is None else self._opened.driver.endpoints()

    def observe(self, endpoint: str) -> Observed:
        """How far an endpoint is; an empty `Observed` where nothing is known of it."""
        return Observed() if self._opened is None else self._opened.driver.observe(endpoint)

    async def start(self) -> None:
        """Go on with what an earlier run has left, in the background."""
        if self._resume:
            self._resuming = asyncio.get_running_loop().create_task(self._go_on())

    async def resumed(self) -> None:
        """Wait until every endpoint of an earlier run serves, or was tried once without success.

        At most for `control.resume_wait_s`; not for a store that cannot be opened.
        """
        wait_s = self._config.resume_wait_s
        end = self._clock.now() + wait_s
        while coming := self._coming():
            if self._clock.now() >= end:
                event = {"waited_s": wait_s, "endpoints": coming}
                log.warning("control.resume_wait_over", extra={"event": event})
                return
            await asyncio.sleep(_LOOK_S)

    def _coming(self) -> list[str]:
        if not self._resume or self._stopped or self._problem:
            return []
        return [_ALL] if self._opened is None else self._opened.driver.coming()

    async def stop(self, drain_s: float) -> None:
        """Finish the operations that run, at most for `drain_s`; then close. Idempotent."""
        self._stopped = True
        if self._resuming is not None:
            self._resuming.cancel()  # what it opens goes on
        tasks = [task for task in (self._resuming, self._opening) if task is not None]
        if tasks or self._running:
            await asyncio.wait([*tasks, *self._running], timeout=drain_s)
        opened, self._opened = self._opened, None
        if opened is not None:
            stopping = asyncio.ensure_future(opened.driver.stop())
            await asyncio.wait([stopping], timeout=_STOP_S)
            # In a thread of others: where the store hangs, all of ours wait for it.
            await asyncio.to_thread(opened.desk.store.close)
            await stopping

    async def call(self, target: str, body: bytes, allow: Allow) -> AwsAnswer:
        """Answer one request; errors are answers, too, as the service words them.

        `target`: X-Amz-Target. `allow`: asked once the request is known to be valid, before
        anything is looked up. Raises nothing but what is a bug.
        """
        prefix, _, name = target.partition(".")
        served = SERVICES.get(prefix)
        if served is None:
            said = f"X-Amz-Target '{target[:_NAME_MAX]}' names no service that hostler serves"
            return control_error(HostlerError(Code.UNIMPLEMENTED, said))
        try:
            answer = await self._answer(served, name, body, allow)
        except HostlerError as error:
            return control_error(error, served.errors)
        return 200, [(b"content-type", JSON_1_1)], answer

    async def _answer(self, served: Served, name: str, body: bytes, allow: Allow) -> bytes:
        operation = (await self._service(served)).find(name)
        row = served.rows[name]
        request = await asyncio.to_thread(operation.parse, body, self._config.body_bytes_max)
        action = f"{served.prefix}:{name}"
        principal = None
        for arn in row.arns(self._arns, request):
            principal = allow(action, arn)
        opened = await self._open()
        desk = replace(opened.desk, principal=principal)
        if row.serves and await self._is_own(desk, request["ModelName"]):
            allow(_INFER, f"model/{request['ModelName']}")
            allow(action, row.arn(self._arns, request))  # once more: it is what is written down
            desk = replace(desk, served=True)
        # Not given up with the request: what is written down must be told to the driver.
        task = asyncio.get_running_loop().create_task(self._run(opened.driver, desk, row, request))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(_seen)
        return operation.render((await asyncio.shield(task)).answer)

    async def _service(self, served: Served) -> Service:
        async with self._loading:
            if served.name not in self._services:
                load = partial(load_service, served.name, frozenset(served.rows))
                self._services[served.name] = await asyncio.to_thread(self.loading, load)
            return self._services[served.name]

    async def _is_own(self, desk: Desk, model: str) -> bool:
        """Whether a model is the repository's, and not one of CreateModel."""
        return self.is_served(model) and await blocking(desk.store.get, MODEL, model) is None

    async def _run(self, driver: Driver, desk: Desk, row: Row, request: Document) -> Outcome:
        if row.observes:
            desk = replace(desk, observed=driver.observe(request[row.member]))
        try:
            outcome = await blocking(row.run, desk, request)
        except Exception as error:
            # A connection may be lost just after the commit: then nobody else would look at it.
            known = isinstance(error, HostlerError) and error.code not in _UNSURE
            if row.kind == ENDPOINT and row.member == "EndpointName" and not known:
                driver.wake(request[row.member])
            if row.kind == TRANSFORM_JOB and not known:
                driver.wake_transform(request[row.member])
            raise
        for endpoint in outcome.wake:
            driver.wake(endpoint)
        for job in outcome.jobs:
            driver.wake_transform(job)
        return outcome

    async def _open(self) -> _Opened:
        """The store and its driver, opened once for all who ask. Raises: UNAVAILABLE, ..."""
        if self._stopped:
            raise HostlerError(Code.UNAVAILABLE, "the server is stopping", retry_after_s=1.0)
        if self._opened is not None:
            return self._opened
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._do_open())
            self._opening.add_done_callback(_seen)
        return await asyncio.shield(self._opening)

    async def _do_open(self) -> _Opened:
        store = await blocking(self._open_store)
        try:
            driver = self._new_driver(store)
            await driver.start()
            if self._stopped:
                await driver.stop()
                raise HostlerError(Code.UNAVAILABLE, "the server is stopping", retry_after_s=1.0)
        except BaseException:
            await asyncio.to_thread(store.close)
            raise
        desk = Desk(
            config=self._config,
            store=store,
            names=Names(store),
            arns=self._arns,
            wall=self._clock.wall,
            check_image=self._check_image,
            check_url=self.check_url,
        )
        self._opened, self._problem = _Opened(desk, driver), ""
        return self._opened

    async def _go_on(self) -> None:
        """Open what an earlier run has left, as soon as that can be opened."""
        pause_s = _PAUSE_FIRST_S
        while not self._stopped:
            event = {"reason": "internal error", "again_in_s": pause_s}
            try:
                await self._open()
            except HostlerError as error:
                event["reason"] = self._problem = error.message
                log.error("control.not_resumed", extra={"event": event})
            except Exception:
                self._problem = "internal error; the server's log has it"
                log.exception("control.not_resumed", extra={"event": event})
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(_PAUSE_MAX_S, 2 * pause_s)


def _plainly(work: Callable[[], Any]) -> Any:
    return work()


def _seen(task: asyncio.Task[_Opened] | asyncio.Task[Outcome]) -> None:
    """Whoever waited may have gone; its error is not to be lost as one that nobody fetched."""
    if not task.cancelled() and task.exception() is not None:
        log.debug("control.task_failed", exc_info=task.exception())
