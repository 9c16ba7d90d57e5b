import logging

import pytest

from hostler.placement.process.output import WorkerOutput


class Clock:
    def __init__(self):
        self.time = 100.0

    def now(self):
        return self.time

    def wall(self):
        return 0.0


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.DEBUG, "hostler.placement")
    return caplog


def shown(logged):
    return [
        (r.levelname, r.message, r.event.get("line", r.event.get("lines"))) for r in logged.records
    ]


def test_lines_come_whole_whatever_the_pieces(logged):
    output = WorkerOutput("m:1/0", Clock(), 10, 10)
    for piece in (b"one\ntw", b"o\n", b"\xff", b"three"):
        output.feed(piece)
    output.finish()
    assert [line for _, _, line in shown(logged)] == ["one", "two", "\ufffdthree"]
    assert output.tail(2) == "two | \ufffdthree"


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        (b"WARNING: low", "WARNING", "low"),
        (b"ERROR: bad", "ERROR", "bad"),
        (b"DEBUG: fine", "DEBUG", "fine"),
        (b"ValueError: no level", "INFO", "ValueError: no level"),
    ],
)
def test_levels_of_the_logger_are_read_back(logged, line, level, text):
    WorkerOutput("m:1/0", Clock(), 10, 10).feed(line + b"\n")
    assert shown(logged) == [(level, "worker.output", text)]


TRACEBACK = """\
Traceback (most recent call last):
  File "model.py", line 3, in predict_fn
    raise ValueError("no")
ValueError: no"""


def test_a_traceback_is_one_event(logged):
    output = WorkerOutput("m:1/0", Clock(), 10, 2)
    text = f"{TRACEBACK}\nlater\n".encode()
    for at in range(0, len(text), 7):
        output.feed(text[at : at + 7])
    first, second = logged.records
    assert (first.levelname, first.message) == ("WARNING", "worker.traceback")
    assert first.event == {"replica": "m:1/0", "traceback": TRACEBACK}
    assert second.event["line"] == "later"
    assert output.tail(2) == "ValueError: no | later"


def test_tracebacks_that_are_cut_off_are_told(logged):
    output = WorkerOutput("m:1/0", Clock(), 10, 1000)
    head = TRACEBACK.rpartition("\n")[0]
    output.feed(f"{head}\n{TRACEBACK}\n{head}".encode())
    output.finish()
    assert [record.event["traceback"] for record in logged.records[:2]] == [head, TRACEBACK]
    assert logged.records[2].event["times"] == 1


def again(logged):
    return [(r.message, r.event.get("times")) for r in logged.records]


def test_an_error_that_comes_again_is_counted(logged):
    clock = Clock()
    output = WorkerOutput("m:1/0", clock, 10, 1000)
    for index in range(51):
        output.feed(f"{TRACEBACK} {'abc'[index % 3]}{index}\n".encode())
    assert again(logged) == [("worker.traceback", None)]
    output.feed(f"{TRACEBACK.replace('line 3', 'line 4')}\n".encode())
    output.feed(f"{TRACEBACK.replace('ValueError', 'TypeError')}\n".encode())
    assert again(logged)[1:] == [("worker.traceback", None)] * 2
    clock.time += 10
    output.feed(f"{TRACEBACK}\n{TRACEBACK}\n".encode())
    output.finish()
    assert again(logged)[3:] == [("worker.traceback_again", 51), ("worker.traceback_again", 1)]
    assert logged.records[3].event["error"] == ('ValueError File "model.py", line 3, in predict_fn')


def test_so_many_errors_are_remembered(logged):
    output = WorkerOutput("m:1/0", Clock(), 10, 1000)
    for index in [*range(65), 0]:
        output.feed(f"{TRACEBACK.replace('line 3', f'line {index}')}\n".encode())
    assert len(logged.records) == 66


def test_a_traceback_is_bounded(logged):
    output = WorkerOutput("m:1/0", Clock(), 10, 1000)
    output.feed(b"Traceback (most recent call last):\n" + (b"  " + b"x" * 998 + b"\n") * 250)
    output.finish()
    assert len(logged.records[0].event["traceback"]) == 16_000


def test_a_flood_is_counted_dropped_and_kept_for_messages(logged):
    clock = Clock()
    output = WorkerOutput("m:1/0", clock, 3, 2)
    output.feed(b"".join(b"%d\n" % i for i in range(6)))
    clock.time += 1.0
    output.feed(b"later\n")
    assert [(m, x) for _, m, x in shown(logged)] == [
        ("worker.output", "0"),
        ("worker.output", "1"),
        ("worker.output_dropped", 4),
        ("worker.output", "later"),
    ]
    assert output.tail(9) == "4 | 5 | later"


def test_a_line_without_end_is_bounded(logged):
    output = WorkerOutput("m:1/0", Clock(), 3, 10)
    for _ in range(100):
        output.feed(b"x" * 1000)
    assert max(len(line) for _, _, line in shown(logged)) == 2000
