"""The processes beside the act node that a fault campaign needs: another arm, a rude client, and burdens. No ROS.

They can be killed, suspended and overloaded without the campaign's own ear becoming deaf.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import fault_burdens

END = 2.0  # s to go
ORDER = 20.0  # s for an order to be carried out
# A killed participant stands in the graph until its lease is over, 10 s by default: the node would be told much later
# that an arm has left, in the midst of another fault.
LEASE = "<CycloneDDS><Domain><Discovery><LeaseDuration>1s</LeaseDuration></Discovery></Domain></CycloneDDS>"
Spin = Callable[[float, Callable[[], bool]], bool]


class Helper:
    """One process that takes lines on standard input, answers on standard output, and ends when its input does."""

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **env},
            start_new_session=True,
        )
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._text = b""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def send(self, text: str) -> None:
        """One line."""
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()

    def lines(self) -> list[str]:
        """Whole lines that it has said since the last look."""
        while self._selector.select(0.0):
            if not (data := os.read(self._process.stdout.fileno(), 65536)):
                break
            self._text += data
        *lines, self._text = self._text.split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def signal(self, name: str) -> None:
        """Send it a signal, if it lives."""
        if self.alive:
            self._process.send_signal(getattr(signal, name))

    def end(self) -> None:
        """Let it go, and see to it that it does."""
        self.signal("SIGCONT")
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        self._process.stdout.close()


class Helpers:
    """All of them, for injections. ``spin(seconds, done)`` serves the campaign's own node meanwhile."""

    def __init__(self, namespace: str, spin: Spin, complain: Callable[[str], None]) -> None:
        self._namespace, self._spin, self._complain = namespace, spin, complain
        self._arm: Helper | None = None
        self.came_at = 0.0  # steady time, when the arm and the node met
        self._caller: Helper | None = None
        self._orders = 0  # that the caller has yet to answer
        self._burdens: list[Helper] = []
        self._ending: list[Helper] = []

    def begin(self) -> None:
        """The arm is there before the node."""
        self.start_arm()

    def close(self) -> None:
        """End everything."""
        for helper in (*self._ending, *self._burdens, self._caller, self._arm):
            if helper is not None:
                helper.end()

    def repair(self) -> None:
        """Take back what was done to the machine, and let everybody live."""
        for helper in self._burdens:
            helper.signal("SIGKILL")  # not waited for: to give gigabytes back takes as long as an image may be old
        self._ending += self._burdens
        self._burdens = []
        for helper in [helper for helper in self._ending if not helper.alive]:
            helper.end()
            self._ending.remove(helper)
        for helper in (self._caller, self._arm):
            if helper is not None:
                helper.signal("SIGCONT")
        if self._arm is not None and not self._arm.alive:
            self.start_arm()

    # -- the arm -------------------------------------------------------------------------------------------------------

    def start_arm(self) -> None:
        """Another arm joins, and is waited for."""
        if self._arm is not None:
            self._arm.end()
        self._arm = self._start("fault_arm_node", {"CYCLONEDDS_URI": LEASE})
        self.came_at = time.monotonic()

    def signal_arm(self, name: str) -> None:
        """``SIGKILL``, ``SIGSTOP`` or ``SIGCONT``."""
        self._arm.signal(name)

    # -- the client ----------------------------------------------------------------------------------------------------

    def order(self, wait: bool = True, **order: Any) -> None:
        """Have the caller do something; without ``wait``, :meth:`settled` says when it has been done."""
        if self._caller is None:
            self._caller = self._start("fault_caller_node", {})
        self._caller.send(json.dumps(order))
        self._orders += 1
        if wait and not self._spin(ORDER, self.settled):
            self._complain(f"the caller did not carry out {order} within {ORDER:g} s")

    def meet(self) -> None:
        """The caller knows every service, so that an attack takes place when it is injected."""
        self.order(do="meet")

    def settled(self) -> bool:
        """Whether the caller has nothing to do any more."""
        if self._orders:
            for line in self._caller.lines():
                self._orders -= 1
                if line != "done":
                    self._complain(f"the caller: {line}")
        return not self._orders

    def suspend_caller(self) -> None:
        """It reads nothing any more, and acknowledges nothing."""
        self._caller.signal("SIGSTOP")

    # -- burdens -------------------------------------------------------------------------------------------------------

    def take_memory(self) -> None:
        """Much of what is free."""
        self._burden("memory", fault_burdens.memory_to_take())

    def starve(self, seconds: float) -> None:
        """Twice as many busy loops as there are processors."""
        for _ in range(2 * (os.cpu_count() or 1)):
            self._burden("cpu", seconds)

    def fill_shared_memory(self) -> None:
        """All but a few MB."""
        self._burden("shared", fault_burdens.shared_memory_to_take())

    def _burden(self, what: str, amount: float) -> None:
        command = ("-m", f"{__package__}.fault_burdens", what, str(amount))
        self._burdens.append(Helper(command, {}))

    def _start(self, module: str, env: dict[str, str]) -> Helper:
        program = f"import sys; from {__package__}.{module} import main; sys.exit(main())"
        helper = Helper(("-c", program, self._namespace), env)
        said: list[str] = []

        def ready() -> bool:
            said.extend(helper.lines())
            return "ready" in said or not helper.alive

        if not self._spin(ORDER, ready) or not helper.alive:
            self._complain(f"{module} did not start")
        return helper
