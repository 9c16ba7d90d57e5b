"""The main job in one go: train, serve, ask, compare, stop.

    python examples/digits/demo.py [FOLDER]

Trains small models on handwritten digits into FOLDER (default `demo-models`; only once), starts
`hostler serve` on it, sends held-out digits over HTTP as JSON and as binary, and prints what comes
back. Ends with 1 if anything is wrong: a server that does not start or stop, a refused request,
answers that differ between the two forms, or an accuracy of 90% or less.
"""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from trained import has_torch, is_complete
from v2 import Client, Outputs, Refused

HERE = Path(__file__).resolve().parent
READY_S = 90.0
STOP_S = 30.0
ACCURACY_MIN = 0.9
SHOWN = 12
ROWS = 40  # digits a request, while accuracy is counted
SINGLES = 200  # requests of one digit, while latency is measured
# Which output says how likely each digit is.
MODELS = {"digits_onnx": "probabilities", "digits_python": "scores", "digits_torch": "OUTPUT__0"}
SHADES = " .:-=+*#%@"

Array = npt.NDArray[Any]
Ask = Callable[[str, str, npt.NDArray[np.float32]], Outputs]


class Failed(Exception):
    """The demo is over; the message says why."""


TROUBLE = (Failed, Refused, OSError, http.client.HTTPException)


def main() -> int:
    """Run the demo; the exit code."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-models")
    try:
        demonstrate(folder)
    except TROUBLE as error:
        say(f"\nfailed: {error}")
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted")
        return 130
    return 0


def demonstrate(folder: Path) -> None:
    """Every step in order. Raises: Failed, Refused, OSError."""
    say("hostler: three ways to read a handwritten digit\n")
    train(folder)
    held_out = np.load(folder / "held_out.npz")
    pixels, labels = held_out["pixels"], held_out["labels"]
    models = [name for name in MODELS if (folder / "repository" / name).is_dir()]
    with serving(folder / "repository") as port:
        client = Client(port)
        show_predictions(client, models, pixels, labels)
        show_accuracy(client, models, pixels, labels)
        show_latency(client, models, pixels)
        client.close()
        show_models(port)
    say("stopped     SIGTERM, exit code 0")


def train(folder: Path) -> None:
    """Train into the folder, unless it is complete."""
    if is_complete(folder):
        say(f"trained     {folder} is complete; remove it to train again")
        return
    start = time.perf_counter()
    command = [sys.executable, str(HERE / "train.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"training ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    say(f"trained     {folder} in {time.perf_counter() - start:.1f} s")
    if not has_torch():
        say("            without the PyTorch model: torch is not installed")


@contextmanager
def serving(repository: Path) -> Iterator[int]:
    """A server on a free port, ready inside the block and stopped cleanly after it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = ["hostler", "serve", str(repository), "--port", str(port)]
    program = Path(sys.executable).with_name("hostler")
    say(f"serving     $ {' '.join(command)}")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(program), *command[1:]], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            seconds = wait_until_ready(process, port)
            say(f"            ready after {seconds:.1f} s")
            yield port
            stop(process)
        except TROUBLE as error:
            process.kill()
            process.wait()
            raise Failed(f"{error}\nthe server's last words:\n{last_words(log)}") from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> float:
    """Seconds until the server says that it is ready. Raises: Failed."""
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < READY_S:
        if process.poll() is not None:
            progress("")
            raise Failed(f"hostler serve ended with {process.returncode} before it was ready")
        if is_ready(port):
            progress("")
            return elapsed
        progress(f"            loading ... {elapsed:.0f} s")
        time.sleep(0.05)
    progress("")
    raise Failed(f"hostler serve is not ready after {READY_S:g} s")


def is_ready(port: int) -> bool:
    """Whether the server is ready now."""
    client = Client(port)
    try:
        return client.get("/v2/health/ready")[0] == 200
    except OSError:
        return False
    finally:
        client.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and a clean end. Raises: Failed."""
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        raise Failed(f"hostler serve did not stop within {STOP_S:g} s of SIGTERM") from None
    if code:
        raise Failed(f"hostler serve ended with {code} after SIGTERM; 0 is expected")


def last_words(log: Any) -> str:
    """The end of what the server printed."""
    log.seek(0)
    return str(log.read().decode(errors="replace").strip()[-3000:])


def predictions(ask: Ask, model: str, pixels: Array) -> Array:
    """The most likely digit for each row."""
    outputs = ask(model, "pixels", pixels)
    scores = outputs.get(MODELS[model])
    if scores is None or scores.shape != (len(pixels), 10):
        shapes = {name: array.shape for name, array in outputs.items()}
        raise Failed(f"{model}: {MODELS[model]} [{len(pixels)}, 10] expected, answered {shapes}")
    best: Array = scores.argmax(axis=1)
    return best


def show_predictions(client: Client, models: list[str], pixels: Array, labels: Array) -> None:
    """A dozen digits, asked one at a time, JSON and binary in turn."""
    asks = (client.infer_json, client.infer_binary)
    answers = {
        model: [
            int(predictions(asks[index % 2], model, pixels[index : index + 1])[0])
            for index in range(SHOWN)
        ]
        for model in models
    }
    say("\nheld-out digits that no model has seen (the first three drawn as the models see them)\n")
    drawings = [drawing(pixels[index]) for index in range(3)]
    for row in zip(*drawings, strict=True):
        say("    " + "     ".join(row))
    say("\n    sent as  true  " + "  ".join(models))
    for index in range(SHOWN):
        cells = [
            f"{answers[model][index]}{' ' if answers[model][index] == labels[index] else ' (!)'}"
            for model in models
        ]
        padded = "  ".join(
            cell.ljust(len(model)) for cell, model in zip(cells, models, strict=True)
        )
        form = "binary" if index % 2 else "JSON"
        say(f"    {form:<7}  {labels[index]:<4}  {padded}".rstrip())


def drawing(pixels: Array) -> list[str]:
    """Eight lines, two characters a pixel."""
    levels = (pixels.reshape(8, 8) / 16 * (len(SHADES) - 1)).round().astype(int)
    return ["".join(SHADES[level] * 2 for level in row) for row in levels]


def show_accuracy(client: Client, models: list[str], pixels: Array, labels: Array) -> None:
    """All held-out digits in both forms. Raises: Failed if a model is wrong too often."""
    say(f"\naccuracy    over {len(labels)} held-out digits, sent as JSON and again as binary")
    for model in models:
        chunks = [pixels[start : start + ROWS] for start in range(0, len(pixels), ROWS)]
        as_json = np.concatenate([predictions(client.infer_json, model, c) for c in chunks])
        as_binary = np.concatenate([predictions(client.infer_binary, model, c) for c in chunks])
        if not np.array_equal(as_json, as_binary):
            raise Failed(f"{model}: JSON and binary answers differ")
        accuracy = float((as_json == labels).mean())
        say(f"            {model:<15} {accuracy:.1%}")
        if accuracy <= ACCURACY_MIN:
            raise Failed(f"{model}: accuracy {accuracy:.1%}; more than {ACCURACY_MIN:.0%} expected")


def show_latency(client: Client, models: list[str], pixels: Array) -> None:
    """Single requests, one after the other, on one connection, this client's own time included."""
    say(f"\nlatency     p50 / p95 in ms of {SINGLES} requests with one digit each")
    for model in models:
        found = [
            f"{form} {p50:.2f} / {p95:.2f}"
            for form, ask in (("JSON", client.infer_json), ("binary", client.infer_binary))
            for p50, p95 in [percentiles_ms(ask, model, pixels)]
        ]
        say(f"            {model:<15} {'    '.join(found)}")


def percentiles_ms(ask: Ask, model: str, pixels: Array) -> tuple[float, float]:
    """The median and the 95th percentile."""
    taken = []
    for index in range(SINGLES):
        row = index % len(pixels)
        start = time.perf_counter()
        ask(model, "pixels", pixels[row : row + 1])
        taken.append((time.perf_counter() - start) * 1e3)
    p50, p95 = np.percentile(taken, [50, 95])
    return float(p50), float(p95)


def show_models(port: int) -> None:
    """The table that the command line prints of a running server. Raises: Failed."""
    arguments = ["models", "--url", f"http://127.0.0.1:{port}"]
    say(f"\n$ hostler {' '.join(arguments)}")
    program = Path(sys.executable).with_name("hostler")
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise Failed(f"hostler models ended with {done.returncode}: {done.stderr.strip()}")
    say(done.stdout)


def say(text: str) -> None:
    """One line of what the demo shows."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def progress(text: str) -> None:
    """A line that the next one replaces; only for a person who watches."""
    if sys.stdout.isatty():
        sys.stdout.write("\r\x1b[K" + text)
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
