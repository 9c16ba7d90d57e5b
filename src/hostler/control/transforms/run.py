"""One run of a transform job: its models come up, the engine works, they go. Loop thread only."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from hostler.control.hosted import Hosted, Outside, Wanted
from hostler.control.records import ContainerRecord
from hostler.control.transforms.decide import End, Seen
from hostler.control.transforms.ports import Transforming
from hostler.control.transforms.record import TransformRecord
from hostler.core import Code, Context, HostlerError
from hostler.jobs import Progress, Start, Summary
from hostler.serving import is_room_short

__all__ = ["Run"]

log = logging.getLogger("hostler.control")

_REPORT_S: Final = 30.0
_LOOK_S: Final = 0.1
_ROOM_S: Final = 5.0
_LONGER: Final = "raise the setting control.startup_timeout_s"


class Run:
    """A job on its way. `turns`: how many may be; it waits for one before its models are fetched.

    `changed`: called when it has begun and when it has come to its end.
    """

    def __init__(
        self,
        record: TransformRecord,
        outside: Outside,
        transforming: Transforming,
        turns: asyncio.Semaphore,
        changed: Callable[[], None],
    ) -> None:
        self._record = record
        self._outside = outside
        self._transforming = transforming
        self._turns = turns
        self._changed = changed
        self._hosted = Hosted(outside)
        self._stop = asyncio.Event()
        self._coming = True  # its models are not up yet, and may be given up at any point
        self._began = False
        self._has_turn = False
        self._has_moved = False
        self.counted = False  # its turn, in the record
        self._closing = False
        self._is_done = record.done_at is not None
        self._done_noted = asyncio.Event()
        self._end: End | None = None
        self.progress = Progress()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def seen(self) -> Seen:
        """How far it is."""
        return Seen(
            running=self._end is None,
            began=self._began,
            end=self._end,
            uncounted=self._has_turn and not self.counted,
            moved=self._has_moved,
            done=self._is_done,
        )

    def note_done(self) -> None:
        """That it is done is in its record. Idempotent."""
        self._done_noted.set()

    def stop(self) -> None:
        """Have it come to an end, without its models if these are not up. Idempotent."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._coming:
            self._task.cancel()

    async def close(self) -> None:
        """Give it up as it stands, for another server to go on with; what is hosted stays."""
        self._closing = True
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def discard(self) -> None:
        """Nobody wants it any more: stop it, and wait until it is gone."""
        self.stop()
        await asyncio.wait([self._task])

    # -- its life ----------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            end = await self._whole()
        except asyncio.CancelledError:
            if self._closing:
                raise
            end = End(stopped=True)  # by whoever: else it would count as running for ever
        except HostlerError as error:
            end = End(failure=error.message)
        except Exception:
            log.exception("transform.run_failed", extra={"event": self._event()})
            end = End(failure="internal error; the server's log has it")
        self._coming = False
        await self._free()
        self._end = end
        self._tell(end)
        self._changed()

    async def _whole(self) -> End:
        async with self._turns:
            self._has_turn = True
            self._changed()
            if self._is_done:  # the server ended before the record could say more
                return await self._finish()
            stages, token = await self._models_with_room()
            self._coming, self._began = False, True
            self._changed()
            log.info("transform.began", extra={"event": self._event(model=self._record.model)})
            reporting = asyncio.get_running_loop().create_task(self._report())
            try:
                return _end_of(await self._ask(stages, token))
            finally:
                reporting.cancel()

    async def _finish(self) -> End:
        record = self._record
        finished = await self._transforming.engine.finish(record.plan, stop=self._stop)
        return End(stopped=not finished)

    async def _done(self) -> None:
        """Have it written before the engine forgets: else all of it would be done again."""
        self._is_done = True
        self._changed()
        await self._done_noted.wait()

    async def _ask(self, stages: list[str], token: str) -> Summary:
        """Run it, over what an unfinished job of other models or options may have left there.

        As in SageMaker, where outputs are written over. Jobs of other inputs are not touched, also
        where they have the same output path.
        """
        run = partial(
            self._transforming.engine.run,
            self._record.plan,
            stages,
            progress=self.progress,
            stop=self._stop,
            principal=self._record.principal,
        )
        try:
            return await run(start=Start(token, on_done=self._done))
        except HostlerError as error:
            if error.code is not Code.ALREADY_EXISTS:
                raise
            log.info("transform.begins_anew", extra={"event": self._event(reason=error.message)})
        return await run(start=Start(token, fresh=True, on_done=self._done))

    async def _free(self) -> None:
        try:
            await self._hosted.free()
        except Exception:
            log.exception("transform.free_failed", extra={"event": self._event()})

    # -- its models --------------------------------------------------------------------------

    async def _models_with_room(self) -> tuple[list[str], str]:
        """As `_models`. Where others are busy in the memory that it takes, it waits for them."""
        while True:
            try:
                return await self._models()
            except HostlerError as error:
                if not is_room_short(error):
                    raise
                event = self._event(reason=error.message, again_in_s=_ROOM_S)
                log.warning("transform.waits_for_memory", extra={"event": event})
            await self._hosted.free()
            await asyncio.sleep(_ROOM_S)

    async def _models(self) -> tuple[list[str], str]:
        """Their names, and the token of all of them together. Raises: what is wrong with one."""
        containers = self._record.containers
        if not containers:
            return [self._record.model], await self._repository_token()
        stages, facts = [], []
        for index, container in enumerate(containers):
            try:
                stage, token = await self._container(index, container)
            except HostlerError as error:
                place = f"container {index} (model '{container.model}')"
                said = f"{place}: {error.message}"
                raise HostlerError(error.code, said, details=error.details) from error
            definition = container.definition
            environment = sorted((definition.get("Environment") or {}).items())
            stages.append(stage)
            facts.append([token, definition.get("Image", ""), environment])
        return stages, _digest(facts)

    async def _container(self, index: int, container: ContainerRecord) -> tuple[str, str]:
        record = self._record
        wanted = Wanted(
            f"transform/{record.name}/{index}",
            container.definition,
            record.instances,
            _LONGER,
            for_job=True,
        )

        def report(text: str) -> None:
            log.debug("transform.starting", extra={"event": self._event(text=text)})

        opened = await self._hosted.bring_up(wanted, report)
        return opened.entry, opened.token

    async def _repository_token(self) -> str:
        repository = self._transforming.repository
        while not repository.ready():  # noqa: ASYNC110 - its start tells nobody
            await asyncio.sleep(_LOOK_S)
        deadline = self._outside.clock.now() + self._outside.config.startup_timeout_s
        principal = self._record.principal
        context = Context(deadline=deadline, principal=principal, background=True)
        live = await repository.acquire(self._record.model, None, context)
        try:
            return _digest([live.spec.name, live.spec.version, live.spec.fingerprint])
        finally:
            live.release()

    # -- words -------------------------------------------------------------------------------

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_S)
            if not self._has_moved and self.progress.objects_done > self.progress.objects_before:
                self._has_moved = True
                self._changed()
            log.info("transform.progress", extra={"event": self._event(**self._counts())})

    def _tell(self, end: End) -> None:
        event = self._event(**self._counts())
        if end.stopped:
            log.info("transform.stopped", extra={"event": event})
        elif end.failure:
            log.warning("transform.failed", extra={"event": {**event, "reason": end.failure}})
        else:
            log.info("transform.completed", extra={"event": event})

    def _counts(self) -> dict[str, object]:
        progress, now = self.progress, self._outside.clock.now()
        left_s = progress.left_s(now)
        return {
            "objects": progress.objects_done,
            "objects_total": progress.objects_total,
            "objects_failed": progress.objects_failed,
            "records": progress.records,
            "records_per_s": round(progress.records_per_s(now), 1),
            "skipped": progress.skipped,
            "left_s": None if left_s is None else round(left_s),
        }

    def _event(self, **more: object) -> dict[str, object]:
        return {"job": self._record.name, **more}


def _end_of(summary: Summary) -> End:
    return End(stopped=True) if summary.stopped else End(summary.failure)


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
