"""The worker thread: one policy, one thread, newest request only, errors delivered instead of lost."""

import threading

import pytest

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.node.diagnostics import DecodeWindow, decoding_summary
from spec_vla_ros.node.parameters import Tunables
from spec_vla_ros.node.worker import Request, Worker
from spec_vla_ros.policy import ScriptedPolicy
from spec_vla_ros.policy_types import DecodeSettings

TUNABLES = Tunables(DecodeSettings(), 1.0, 0.5, 2.0, 0.5, 0.1, False)
WAIT = 10  # s; longer than any of this can take, so a failure is a failure


def image():
    import numpy as np

    return np.zeros((2, 2, 3), dtype=np.uint8)


def request(number=1, picture=image, fresh=False):
    return Request(number, picture, 0.0, None, "go", TUNABLES, fresh)


class Bell:
    """Counts notifications and waits for the next one."""

    def __init__(self):
        self._rung = threading.Semaphore(0)

    def __call__(self):
        self._rung.release()

    def wait(self):
        assert self._rung.acquire(timeout=WAIT), "no notification"


class Recorder(ScriptedPolicy):
    """Notes in which thread it is built and called; waits for ``gate`` if there is one."""

    def __init__(self, gate=None):
        super().__init__([[0.0] * 7])
        self.threads, self.gate, self.entered = [threading.current_thread()], gate, threading.Event()

    def infer(self, *arguments):
        self.threads.append(threading.current_thread())
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(WAIT)
        return super().infer(*arguments)


@pytest.fixture
def workers():
    """Makes workers and closes them afterwards."""
    made = []

    def make(factory, bell=lambda: None):
        made.append(Worker(factory, bell))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


def test_one_thread_builds_and_calls_the_policy_and_it_is_not_ours(workers):
    policies, bell = [], Bell()
    worker = workers(lambda: policies.append(Recorder()) or policies[0], bell)
    assert worker.wait_loaded(WAIT)
    for number in range(3):
        worker.submit(request(number))
        bell.wait()
    assert len(set(policies[0].threads)) == 1
    assert policies[0].threads[0] is not threading.current_thread()
    assert policies[0].threads[0].daemon


def test_an_outcome_carries_its_request_and_is_taken_once(workers):
    bell = Bell()
    worker = workers(Recorder, bell)
    sent = request(7)
    worker.submit(sent)
    bell.wait()
    outcome = worker.take()
    assert outcome.request is sent
    assert outcome.error is None
    assert outcome.result.values.shape == (7,)
    assert outcome.seconds >= 0
    assert worker.take() is None
    assert not worker.busy


def test_a_recording_that_turns_out_to_be_missing_while_driving_reaches_diagnostics(workers):
    class Recording(ScriptedPolicy):
        recording = "on"

        def describe(self):
            return {"policy": "played", "cuda_graphs": self.recording}

        def infer(self, *arguments):
            self.recording = "not recorded when the model was loaded, so slower: a pass of 500 + 64 rows"
            return super().infer(*arguments)

    bell = Bell()
    worker = workers(lambda: Recording([[0.0] * 7]), bell)
    assert worker.wait_loaded(WAIT)
    assert decoding_summary(worker, DecodeWindow())[:2] == ("OK", "played")
    worker.submit(request())
    bell.wait()
    level, text, values = decoding_summary(worker, DecodeWindow())
    assert level == "WARN"
    assert "a pass of 500 + 64 rows" in text
    assert "a pass of 500 + 64 rows" in values["cuda_graphs"]


def test_a_newer_request_replaces_one_that_has_not_started(workers):
    gate, bell = threading.Event(), Bell()
    policy = Recorder(gate)
    worker = workers(lambda: policy, bell)
    worker.submit(request(1))
    assert policy.entered.wait(WAIT)
    worker.submit(request(2))
    worker.submit(request(3))
    assert worker.busy
    gate.set()
    bell.wait()
    bell.wait()
    assert worker.take().request.number == 3
    assert not worker.busy
    assert policy.inferences == 2


@pytest.mark.parametrize("error", [RuntimeError("x"), MemoryError("x"), KeyboardInterrupt("x"), SystemExit(3)])
def test_every_exception_becomes_an_outcome_and_the_thread_lives(workers, error):
    bell = Bell()

    def broken():
        raise error

    worker = workers(Recorder, bell)
    worker.submit(request(1, broken))
    bell.wait()
    assert worker.take().error is error
    worker.submit(request(2))
    bell.wait()
    assert worker.take().error is None


def test_a_policy_that_does_not_load_says_why(workers):
    def broken():
        raise CheckpointError("no config.json")

    with pytest.raises(CheckpointError, match=r"no config\.json"):
        workers(broken).wait_loaded(WAIT)


def test_waiting_for_a_slow_load_can_be_interrupted(workers):
    gate = threading.Event()
    worker = workers(lambda: gate.wait(WAIT) and Recorder())
    assert not worker.wait_loaded(0.01)
    gate.set()
    assert worker.wait_loaded(WAIT)
    assert (worker.action_dim, worker.description["policy"]) == (7, "scripted")


def test_a_fresh_request_resets_the_policy_first(workers):
    bell, policy = Bell(), Recorder()
    worker = workers(lambda: policy, bell)
    for fresh in (True, False, True):
        worker.submit(request(fresh=fresh))
        bell.wait()
    assert policy.resets == 2


def test_closing_frees_the_policy(workers):
    import gc
    import weakref

    references = []

    def factory():
        policy = Recorder()
        references.append(weakref.ref(policy))
        return policy

    worker = workers(factory)
    assert worker.wait_loaded(WAIT)
    assert worker.close(WAIT)
    gc.collect()
    assert references[0]() is None


def test_a_hanging_worker_does_not_hold_up_closing_and_its_answer_is_not_told(workers):
    gate, rung = threading.Event(), []
    policy = Recorder(gate)
    worker = workers(lambda: policy, lambda: rung.append(1))
    worker.submit(request())
    assert policy.entered.wait(WAIT)
    assert not worker.close(0.01)
    gate.set()
    assert worker.close(WAIT)
    assert rung == []
    assert worker.take() is None


def test_what_was_loaded_is_out_of_the_collectors_sight_until_it_is_freed(workers):
    """A full collection over all of torch stopped the stream for 0.2 s in the middle of a motion."""
    import gc

    worker = workers(lambda: ScriptedPolicy([[0.0] * 7]))
    assert worker.wait_loaded(10)
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < gc.get_freeze_count()
    assert worker.close()
    assert gc.get_freeze_count() == 0


def test_what_is_logged_while_loading_is_told_and_nothing_afterwards(workers):
    """Of this worker's thread alone: two nodes in a process must not tell each other's models."""
    import logging

    log, elsewhere = logging.getLogger("spec_vla_ros.openvla.loader"), threading.Event()

    def factory():
        log.info("taken from here")
        threading.Thread(target=lambda: (log.warning("another's"), elsewhere.set())).start()
        assert elsewhere.wait(WAIT)
        log.warning("not pinned")
        return ScriptedPolicy([[0.0] * 7])

    worker = workers(factory)
    assert worker.wait_loaded(WAIT)
    log.warning("later")
    told = [worker.told.get_nowait() for _ in range(worker.told.qsize())]
    assert [(record.levelname, record.getMessage()) for record in told] == [
        ("INFO", "taken from here"),
        ("WARNING", "not pinned"),
    ]


def test_a_load_that_nobody_waits_for_any_more_is_let_go(workers):
    gate = threading.Event()
    worker = workers(lambda: gate.wait(WAIT) and ScriptedPolicy([[0.0] * 7]))
    assert worker.close(WAIT), "at once"
    assert not worker.wait_loaded(0.0)
    gate.set()
    worker._thread.join(WAIT)
    assert not worker._thread.is_alive()


@pytest.mark.parametrize("error", [None, CheckpointError("no weights")])
def test_what_is_taken_is_in_the_nodes_log_also_where_it_does_not_load(workers, error):
    import logging

    from spec_vla_ros.node.loading import wait_loaded

    class Logger:
        def __init__(self):
            self.said = []

        def info(self, text, **_):
            self.said.append(("info", text))

        def warning(self, text, **_):
            self.said.append(("warning", text))

    def factory():
        logging.getLogger("spec_vla_ros.openvla.loader").info("the model: the folder /m")
        logging.getLogger("spec_vla_ros.openvla.loader").warning("not pinned")
        if error:
            raise error
        return ScriptedPolicy([[0.0] * 7])

    logger, stop = Logger(), threading.Event()
    if error:
        with pytest.raises(CheckpointError):
            wait_loaded(workers(factory), stop, logger)
    else:
        wait_loaded(workers(factory), stop, logger)
    assert logger.said[:2] == [("info", "the model: the folder /m"), ("warning", "not pinned")]
