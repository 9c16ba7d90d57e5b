"""Hooks around a model that the server computes: bytes to its inputs, its outputs to bytes.

While that model computes, this worker takes further requests: it answers each when its call has
landed (loop.py). All hooks run on the main thread, one at a time, so scripts need no locks.
"""

from __future__ import annotations

from typing import Any

from ..asked_model import AskedModel
from ..calls import Call
from ..errors import Failure
from ..exchange import Exchange
from ..handler_functions import load_script
from ..handler_requests import next_piece, send_pieces
from ..hook_functions import FunctionHooks, HandlerHooks, Pieces
from ..sagemaker_modules import install_modules
from ..serving_handlers import serving_handlers
from ..streams import Window
from ..task import Answer, Request, Task

__all__ = ["HooksAdapter", "new_adapter"]

OPEN_MAX = 8
"""Requests whose answers a worker waits for, unless the package says otherwise. They are what the
model's batches are made of; and a crash in a hook loses all of them."""


def new_adapter(exchange: Exchange) -> HooksAdapter:
    """The adapter of runtime `hooks`."""
    return HooksAdapter(exchange)


class Asked:
    """A request whose call is open. `kept`: what the hooks keep of it."""

    __slots__ = ("call", "kept", "window")

    def __init__(self, call: Call, window: Window, kept: Any) -> None:
        self.call = call
        self.window = window
        self.kept = kept


class HooksAdapter:
    """Runs the hooks of one script.

    Options: `script`; `kind`, functions or handlers; `asks`, the model to ask; `served_name`, what
    clients may call it in `tfs-model-name`; `open_max`, see OPEN_MAX.
    """

    writable = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._streams = exchange.streams
        self._open: dict[int, Asked] = {}
        self._open_max = OPEN_MAX
        self._hooks: FunctionHooks | HandlerHooks
        self._model: AskedModel

    def open(self, task: Task) -> dict[str, Any]:
        """Import the script."""
        exchange = self._exchange
        self._open_max = int(task.options.get("open_max", OPEN_MAX))
        if task.options.get("kind") == "handlers":
            handlers = serving_handlers(task)
            if handlers is None:
                text = "model '{}': {} has no input_handler and output_handler"
                raise Failure("INVALID_ARGUMENT", text.format(task.model, task.options["script"]))
            self._hooks = HandlerHooks(task, handlers, exchange.results)
        else:
            install_modules()
            self._hooks = FunctionHooks(task, load_script(task), exchange.results)
        self._model = AskedModel(exchange.calls, task.options["asks"], task.model)
        return {}

    def start(self, config: dict[str, Any]) -> None:
        """Take answers from now on."""
        self._exchange.landed = self._landed

    def execute(self, requests: list[Request]) -> list[Answer | Failure | None]:
        """Ask the model for each; the answers go out when it has answered."""
        return [self._begin(request) for request in requests]

    def close(self) -> None:
        """Nothing to do."""

    def _begin(self, request: Request) -> Failure | None:
        while len(self._open) >= self._open_max:
            self._landed(next(iter(self._open)))
        try:
            takes = self._model.takes(request)
        except Failure as failure:
            return failure
        try:
            kept, inputs = self._hooks.opened(request, takes)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            return self._hooks.failure(error, "failed in its hooks")
        try:
            call = self._model.ask(request, inputs)
        except OSError:
            raise  # the server has gone
        except (Exception, SystemExit) as error:  # noqa: BLE001 - texts of user code's objects
            return self._hooks.failure(error, "gave what cannot be sent")
        window = self._streams.open(request.run, request.index)
        self._open[call.number] = Asked(call, window, kept)
        return None

    def _landed(self, number: int) -> None:
        """Answer the request of this call; one that was waited for has been answered."""
        asked = self._open.pop(number, None)
        if asked is None:
            return
        try:
            self._answer(asked)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            failure = self._hooks.failure(error, "failed in its hooks")
            self._streams.respond(asked.window, failure, final=True)

    def _answer(self, asked: Asked) -> None:
        outputs: dict[str, Any] | Failure
        try:
            outputs = self._model.outputs(asked.call)
        except Failure as failure:
            outputs = failure
        answer = self._hooks.closed(asked.kept, outputs)
        if isinstance(answer, Pieces):
            pieces = answer.pieces
            first = next_piece(pieces)
            send_pieces(self._streams, asked.window, first, pieces, answer.parameters)
        else:
            self._streams.respond(asked.window, answer, final=True)
