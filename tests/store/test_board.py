"""What ranks tell each other at the store of their process group, and how it is seen that the others are gone."""

import subprocess
import sys
import threading
import time

import pytest

from lepton_lab.launchers.failures import VICTIM
from lepton_lab.launchers.torchrun.plan import served
from lepton_lab.store.board import Board


@pytest.fixture
def boards():
    port = served("127.0.0.1").port
    return [Board("127.0.0.1", port, 0.3) for _ in range(2)]


def test_what_is_told_is_heard_once_and_the_last_of_it(boards):
    here, there = boards
    assert there.news("word") is None
    here.tell("word", "a")
    here.tell("word", "b")
    assert there.news("word") == "b"
    assert there.news("word") is None
    here.tell("word", "c")
    assert there.news("word") == "c"


def test_a_word_is_waited_for_as_long_as_somebody_is_at_work_for_it(boards, monkeypatch):
    monkeypatch.setattr("lepton_lab.store.board.BEAT", 0.05)
    here, there = boards

    def work():
        with here.working():
            time.sleep(1)
            here.write("word", "at last")

    thread = threading.Thread(target=work)
    thread.start()
    assert there.read("word") == "at last"
    thread.join()
    with pytest.raises(TimeoutError, match="nobody was at work for 'another'") as error:
        there.read("another")
    assert VICTIM.search(str(error.value))


def test_a_store_that_is_gone_is_an_error_that_blames_nobody(tmp_path):
    code = "from lepton_lab.launchers.torchrun.plan import served; print(served('127.0.0.1').port, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    board = Board("127.0.0.1", int(process.stdout.readline()), 5)
    board.write("word", "a")
    process.kill()
    process.communicate()
    with pytest.raises(RuntimeError) as error:
        board.read("word")
    assert VICTIM.search(str(error.value))
