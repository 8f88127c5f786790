"""What configure says while a model is loaded."""

import queue
import threading
from types import SimpleNamespace

import pytest


class Log:
    """Takes the place of a node's logger."""

    def __init__(self):
        self.lines = []

    def __getattr__(self, level):
        return lambda line, **_: self.lines.append(line)


@pytest.mark.parametrize(("seconds", "said"), [(0.3, []), (4.9, []), (17.0, [5, 10, 15])])
def test_a_load_that_goes_on_is_told_every_five_seconds(ros, monkeypatch, seconds, said):
    """A load of a fraction of a second said "still loading after 0 s"."""
    from spec_vla_ros.node import loading

    now, log = [100.0], Log()

    def wait_loaded(timeout):
        now[0] += timeout
        return now[0] >= 100.0 + seconds

    worker = SimpleNamespace(
        wait_loaded=wait_loaded, told=queue.SimpleQueue(), action_dim=loading.ACTION_DIM, description={}
    )
    monkeypatch.setattr(loading, "time", SimpleNamespace(monotonic=lambda: now[0]))
    loading.wait_loaded(worker, threading.Event(), log)
    assert [line for line in log.lines if "still" in line] == [f"still loading after {number} s" for number in said]
    assert "loaded in" in log.lines[-1]
