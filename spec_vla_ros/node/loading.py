"""What configure does about the policy: wait until the worker has it, saying so, and find out how long a step takes."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from spec_vla_ros.errors import StoppedError
from spec_vla_ros.motion.data_sets import action_period
from spec_vla_ros.motion.watchdog import Fault

from .cycle import ACTION_DIM
from .parameters import Fixed
from .worker import Worker

SCRIPT_STEP = 0.2  # s of one canned move
SAID_EVERY = 5.0  # s between two lines about a load that goes on


def announce(fixed: Fixed, logger: Any) -> None:
    """Say what is about to be loaded, and what it is not made for."""
    logger.info(f"loading policy {fixed.policy} {fixed.model if fixed.policy == 'openvla' else ''}")
    if "libero" in f"{fixed.unnorm_key} {fixed.model}".lower():
        logger.warning("LIBERO actions are controller inputs in -1..1, not metres: simulator only")


def wait_loaded(worker: Worker, stop: threading.Event, logger: Any) -> None:
    """Return once ``worker`` has its policy, telling what it tells; raises what loading raised, ``StoppedError`` if
    ``stop`` is set, and ``ValueError`` for a policy whose actions this node cannot carry out.
    """
    began = told = time.monotonic()
    try:
        while not worker.wait_loaded(0.1):
            if stop.is_set():
                raise StoppedError(f"asked to end after {time.monotonic() - began:.1f} s of loading")
            _pass_on(worker, logger)
            # Not by the logger's throttle, whose first line that is not skipped comes at once.
            if (now := time.monotonic()) - told >= SAID_EVERY:
                told = now
                logger.info(f"still loading after {now - began:.0f} s")
    finally:  # what was taken is worth knowing above all where it does not load
        _pass_on(worker, logger)
    if worker.action_dim != ACTION_DIM:
        raise ValueError(f"actions have {worker.action_dim} dimensions, this node needs {ACTION_DIM}")
    logger.info(f"loaded in {time.monotonic() - began:.1f} s: {worker.description}")
    if problems := worker.description.get("draft_head_problems"):
        logger.warning(f"decoding goes on without: {problems}")


def fault_of(error: Exception) -> Fault:
    """What an error while configuring is called; a value that cannot be is the parameter's."""
    if isinstance(error, ValueError):
        return Fault("CONFIGURATION_INVALID", str(error), "Correct the parameter.")
    return Fault.of(error)


def _pass_on(worker: Worker, logger: Any) -> None:
    while not worker.told.empty():
        record = worker.told.get()
        if record.levelno >= logging.WARNING:  # on a line of its own: rclpy refuses one line with two severities
            logger.warning(record.getMessage())
        else:
            logger.info(record.getMessage())


def step_dt(fixed: Fixed, description: dict[str, str]) -> float:
    """Seconds that one action of the policy so described takes; raises ``ValueError`` if nobody knows."""
    if fixed.step_dt:
        return fixed.step_dt
    return SCRIPT_STEP if description["policy"] == "scripted" else action_period(description["unnorm_key"])
