"""The one thread that owns the policy, and with it torch, from loading to the end.

Compiled graphs and CUDA contexts do not like to move between threads, and an inference inside a ROS callback would
keep the executor from the dead-man. The thread is a daemon: a process that has to stop never waits for it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import queue
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from spec_vla_ros.policy_types import Policy, PolicyResult

from .parameters import Tunables

_log = logging.getLogger(__name__)
PACKAGE = "spec_vla_ros"  # whose log records are told while the policy is loaded


@dataclass(frozen=True)
class Request:
    """One inference. ``image`` is converted by the worker, off the executor's thread.

    ``number`` counts requests. ``image``: called without arguments, returns (H, W, 3) uint8 RGB or raises.
    ``captured_at``: steady time (s). ``header``: of the image, opaque here. ``fresh``: forget the history first.
    ``frames_skipped``: frames since the previous request that were not used. ``steady``: pacing when it was made.
    """

    number: int
    image: Callable[[], np.ndarray]
    captured_at: float
    header: Any
    instruction: str
    tunables: Tunables
    fresh: bool
    frames_skipped: int = 0
    steady: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a request: a result or an error, and the seconds it took."""

    request: Request
    result: PolicyResult | None
    error: BaseException | None
    seconds: float
    fingerprint: int | None = None  # checksum of the image; equal pixels have equal ones


class Worker:
    """Runs requests one at a time; a newer request replaces one that has not started.

    ``notify`` is called from the worker's thread whenever :meth:`take` has something new. ``told``: log records of
    loading, such as which files are taken, for whoever waits for it.
    """

    def __init__(self, factory: Callable[[], Policy], notify: Callable[[], None]) -> None:
        """Start the thread, which builds the policy with ``factory`` first of all."""
        self._factory, self._notify = factory, notify
        self._change = threading.Condition()
        self._loaded = threading.Event()
        self._load_error: BaseException | None = None
        self._request: Request | None = None
        self._outcome: Outcome | None = None
        self._running = False
        self._closed = False
        self.told: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        self.description: dict[str, str] = {}
        self.identity: dict[str, Any] = {}  # of the model and its heads; empty for a policy without
        self.action_dim = 0
        self.bin_width: tuple[float, ...] = ()  # m, rad, gripper units per bin and step; empty if unknown
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether an inference is under way or waiting."""
        with self._change:
            return self._running or self._request is not None

    def wait_loaded(self, timeout: float) -> bool:
        """Whether the policy is ready within ``timeout`` seconds. Raises what the factory raised."""
        ready = self._loaded.wait(timeout)
        if self._load_error is not None:
            raise self._load_error
        return ready

    def submit(self, request: Request) -> None:
        """Run ``request`` as soon as the thread is free."""
        with self._change:
            self._request = request
            self._change.notify()

    def take(self) -> Outcome | None:
        """The newest outcome, once."""
        with self._change:
            outcome, self._outcome = self._outcome, None
            return outcome

    def close(self, wait: float = 2.0) -> bool:
        """Free the policy and end the thread; returns whether that happened within ``wait`` seconds.

        A thread that hangs in an inference cannot be ended; it is left behind and its answer is never looked at. One
        that is still loading is not waited for: that takes minutes, and is only given up where the process ends.
        """
        with self._change:
            self._closed, self._request = True, None
            self._change.notify()
        if not self._loaded.is_set():
            return True
        self._thread.join(wait)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with _listening(self.told):
                policy = self._factory()
            self.description, self.action_dim = dict(policy.describe()), policy.action_dim
            self.identity = dict(getattr(policy, "identity", {}))
            if (loaded := getattr(policy, "loaded", None)) is not None:
                self.bin_width = tuple(float(width) for width in loaded.statistics.bin_width(loaded.tokens.n_bins))
        except BaseException as error:  # noqa: BLE001 - whatever it is, configure must hear of it
            self._load_error = error
            return
        finally:
            _settle_memory()
            self._loaded.set()
        while (request := self._next()) is not None:
            outcome = _infer(policy, request)
            recording = getattr(policy, "recording", None)  # which may turn out while driving
            with self._change:
                if recording is not None and recording != self.description.get("cuda_graphs"):
                    self.description = self.description | {"cuda_graphs": recording}
                self._running = False
                if self._closed:
                    break
                self._outcome = outcome
            self._notify()
        if (close := getattr(policy, "close", None)) is not None:  # nobody moves the arm any more
            try:
                close()
            except Exception as error:  # noqa: BLE001 - the memory is to be freed whatever it is
                _log.warning(f"{type(error).__name__}: {error}")
            del close
        del policy
        _free_memory()

    def _next(self) -> Request | None:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._request is not None)
            if self._closed:
                return None
            request, self._request, self._running = self._request, None, True
            return request


@contextlib.contextmanager
def _listening(told: queue.SimpleQueue[logging.LogRecord]) -> Iterator[None]:
    """Put what the package logs in this thread into ``told``: torch's side of it knows no ROS logger."""
    logger, thread = logging.getLogger(PACKAGE), threading.get_ident()
    ear = logging.Handler(logging.INFO)
    ear.emit = lambda record: told.put(record) if record.thread == thread else None
    level = logger.level
    logger.addHandler(ear)
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(ear)


def _infer(policy: Policy, request: Request) -> Outcome:
    """Run one request; every exception becomes part of the outcome, because nobody else would see it."""
    began = time.monotonic()
    result = error = fingerprint = None
    try:
        if request.fresh:
            policy.reset()
        image = request.image()
        fingerprint = zlib.crc32(np.ascontiguousarray(image))
        result = policy.infer(image, request.instruction, request.tunables.decode)
    except BaseException as caught:  # noqa: BLE001
        _log.debug("inference failed", exc_info=True)
        error = caught
    return Outcome(request, result, error, time.monotonic() - began, fingerprint)


def _settle_memory() -> None:
    """Take everything that was loaded out of the garbage collector's sight.

    A full collection walks through all of torch: 0.2 s during which no thread runs, in the middle of a motion. What
    comes later is little.
    """
    gc.collect()
    gc.freeze()


def _free_memory() -> None:
    """Give the memory of a dropped model back to the GPU. Torch is not imported for it."""
    gc.unfreeze()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
