"""Bodies of Python models that answer through response senders."""

from __future__ import annotations

__all__ = ["ASYNC", "INLINE", "LATER", "SENDS"]

_ANSWER = """
def answer(self, value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("O0", np.array([value], np.float32))])
"""

INLINE = (
    _ANSWER
    + """
def execute(self, requests):
    for request in requests:
        sender = request.get_response_sender()
        for i in range(int(request.inputs()[0].as_numpy()[0])):
            sender.send(self.answer(i))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)
"""Sends 0, 1, ... n - 1 and a bare end before `execute` returns."""

LATER = (
    _ANSWER
    + """
def execute(self, requests):
    import threading
    for request in requests:
        array = request.inputs()[0].as_numpy()
        sender = request.get_response_sender()
        threading.Thread(target=self.run, args=(sender, array), daemon=True).start()

def run(self, sender, array):
    pause = float(array[1]) if len(array) > 1 else 0.0
    for i in range(int(array[0])):
        sender.send(self.answer(i))
        time.sleep(pause)
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)
"""The same from a thread of its own; the second number is a pause in seconds."""

ASYNC = (
    _ANSWER
    + """
async def execute(self, requests):
    import asyncio
    for request in requests:
        array = request.inputs()[0].as_numpy()
        sender = request.get_response_sender()
        for i in range(int(array[0])):
            sender.send(self.answer(i))
            await asyncio.sleep(float(array[1]) if len(array) > 1 else 0.0)
        if array[0] < 0:
            raise ValueError("less than nothing")
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)
"""The same in a coroutine; a negative number raises."""

SENDS = (
    _ANSWER
    + """
def execute(self, requests):
    FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    request = requests[0]
    order = int(request.inputs()[0].as_numpy()[0])
    sender = request.get_response_sender()
    if order == 0:  # the last one with a response
        sender.send(self.answer(0))
        sender.send(self.answer(1), flags=FINAL)
    elif order == 1:  # an error in the middle ends it
        sender.send(self.answer(0))
        error = pb_utils.TritonError("enough", pb_utils.TritonError.NOT_FOUND)
        sender.send(pb_utils.InferenceResponse(error=error))
        sender.send(self.answer(1))
        sender.send(flags=FINAL)
    elif order == 2:  # nobody ends it
        sender.send(self.answer(0))
    elif order == 3:
        sender.send(self.answer(0))
        raise RuntimeError("in the middle")
    elif order == 4:
        sender.send(flags=FINAL)
        raise RuntimeError("after the end")
    elif order == 5:
        sender.send(flags=FINAL)
        return [self.answer(0)]
    elif order == 6:  # an output that the model does not have
        wrong = pb_utils.Tensor("NO", np.zeros(1, np.float32))
        sender.send(pb_utils.InferenceResponse([wrong]), flags=FINAL)
    elif order == 7:
        texts = []
        for arguments in [(), (5,), (self.answer(0), 3)]:
            try:
                sender.send(*arguments)
            except pb_utils.TritonModelException as error:
                texts.append(str(error))
        sender.send(flags=FINAL)
        try:
            sender.send(self.answer(0))
        except pb_utils.TritonModelException as error:
            texts.append(str(error))
        print(" / ".join(texts), flush=True)
    elif order == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    elif order == 9:
        sender.send(self.answer(0))
        self.kept = sender
    elif order == 10:
        self.answer(float(sender.is_cancelled()))
        while not sender.is_cancelled():
            time.sleep(0.005)
        sender.send(self.answer(float(request.is_cancelled())), flags=FINAL)
"""
)
"""Does what its one number orders."""
