import signal
import sys

import pytest

from hostler.placement.process.launch import (
    WORKER_FOLDER,
    describe_exit,
    environment,
    held_back,
)


def test_the_worker_is_where_placement_thinks_it_is():
    assert (WORKER_FOLDER / "__main__.py").is_file()


def test_a_worker_gets_nothing_of_the_servers_environment(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    given = environment("/opt/py/bin/python", 3)
    assert given["OMP_NUM_THREADS"] == "3"
    assert given["PATH"].startswith("/opt/py/bin:")
    assert "secret" not in given.values()


def test_only_a_foreign_python_is_kept_from_the_users_packages():
    assert "PYTHONNOUSERSITE" not in environment(sys.executable, 1)
    given = environment("/opt/env/bin/python", 1)
    assert given["PYTHONNOUSERSITE"] == "1"
    assert [name for name in given if name.startswith("PYTHON")] == [
        "PYTHONUNBUFFERED",
        "PYTHONNOUSERSITE",
    ]


def test_a_models_own_variables_win_save_those_that_decide_how_a_process_starts():
    variables = {
        "OMP_NUM_THREADS": "1", "TOKEN": "t", "PYTHONPATH": "/p", "PYTHONHOME": "/h",
        "LD_PRELOAD": "/l.so", "LD_LIBRARY_PATH": "/lib",
    }  # fmt: skip
    given = environment(sys.executable, 3, variables)
    assert given["OMP_NUM_THREADS"] == "1"
    assert given["TOKEN"] == "t"
    assert given["LD_LIBRARY_PATH"] == "/lib"
    assert held_back(variables) == {
        "PYTHONPATH": "/p", "PYTHONHOME": "/h", "LD_PRELOAD": "/l.so",
    }  # fmt: skip
    assert not given.keys() & held_back(variables).keys()


@pytest.mark.parametrize(
    ("code", "limit", "text"),
    [
        (0, 0, "exited with code 0"),
        (3, 0, "exited with code 3"),
        (-signal.SIGSEGV, 5, "was killed by SIGSEGV"),
        (-signal.SIGKILL, 0, "was killed by SIGKILL (out of memory, or by hand)"),
        (
            -signal.SIGKILL,
            5,
            "was killed by SIGKILL (out of memory, or by hand; its memory limit is 5 bytes)",
        ),
        (-99, 0, "was killed by signal 99"),
    ],
)
def test_ends_in_words(code, limit, text):
    assert describe_exit(code, limit) == text
