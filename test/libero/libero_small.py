"""A small world with LIBERO's interface, for what surrounds the simulator, and drivers for it. Top-level functions,
because they cross to worker processes.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np

from spec_vla_ros.errors import NonActionTokenError
from spec_vla_ros.libero.bench import Driver
from spec_vla_ros.policy import ScriptedPolicy

FORWARD = [1.0, 0, 0, 0, 0, 0, 0.0]  # full input along x, gripper closed


class SmallWorld:
    """A point on a line: an episode is won where x >= 0.2 m with the gripper closed. A full input is 0.05 m.

    It begins at minus 0.05 m times the trial, so a trial takes four actions more than its number. Rendered upside
    down, as OpenGL does: the point is bright in a dark picture.
    """

    tasks = ("push the point", "leave the point alone")

    def __init__(self, log=None):
        self.x, self.actions, self.resets, self.closed, self._log = 0.0, [], [], False, log

    def reset(self, task, trial, seed):
        self.task, self.x = task, -0.05 * trial
        self.resets.append((task, trial, seed))
        if self._log:
            with self._log.open("a") as stream:
                stream.write(f"{task} {trial} {seed}\n")
        return self.render()

    def step(self, action):
        assert action.shape == (7,)
        self.actions.append(action)
        self.x += 0.05 * float(np.clip(action[0], -1, 1))
        return self.render(), bool(self.task == 0 and self.x >= 0.2 - 1e-9 and action[6] == 1.0)

    def render(self):
        picture = np.full((256, 256, 3), 20, dtype=np.uint8)
        column = int(np.clip(128 + 400 * self.x, 0, 240))
        picture[40:60, column : column + 16] = 230
        return picture[::-1, ::-1]

    def close(self):
        self.closed = True


def nothing_missing(options):
    """In the place of the search for LIBERO."""


def small_world(options, index):
    return SmallWorld(options.work / f"resets-{index}")


def driver(options, device, threads):
    assert threads >= 1
    return Driver(ScriptedPolicy([FORWARD]), 32, frozenset({"vision"}))


def driver_without_heads(options, device, threads):
    return Driver(ScriptedPolicy([FORWARD]), 32)


def slow_driver(options, device, threads):
    def step(image, instruction):
        Path(options.work, "began").touch()
        time.sleep(0.05)
        return [0.0, 0, 0, 0, 0, 0, 1.0]

    return Driver(ScriptedPolicy([step]), 32)


def refusing_driver(options, device, threads):
    return Driver(ScriptedPolicy([FORWARD, NonActionTokenError("token 5")], repeat=True), 32)


def broken_driver(options, device, threads):
    raise OSError("no such model")


def dying_driver(options, device, threads):
    """Worker 1 kills itself at its third action; the others do their work."""
    if device != "second":
        return driver(options, device, threads)
    return Driver(ScriptedPolicy([FORWARD, FORWARD, lambda image, text: os.kill(os.getpid(), signal.SIGKILL)]), 32)
