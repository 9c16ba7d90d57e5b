import threading

from hostler.worker.chores import Chores

TIMEOUT_S = 10.0


def test_chores_are_done_in_order_by_one_thread_even_after_one_failed(capsys):
    chores, done, seen = Chores(), threading.Event(), []
    chores.do(lambda: seen.append(threading.current_thread().name))
    chores.do(lambda: 1 / 0)
    chores.do(lambda: seen.append(threading.current_thread().name))
    chores.do(done.set)
    assert seen == []
    chores.start()
    chores.start()
    assert done.wait(TIMEOUT_S)
    assert seen == ["hostler-chores"] * 2
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_later_is_after_what_comes_meanwhile():
    chores, done, seen = Chores(), threading.Event(), []
    chores.do_later(lambda: (seen.append("later"), done.set()), 0.05)
    chores.do(lambda: seen.append("now"))
    assert done.wait(TIMEOUT_S)
    assert seen == ["now", "later"]
    again = threading.Event()
    chores.do_later(again.set, 0.0)
    assert again.wait(TIMEOUT_S)
