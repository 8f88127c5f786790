"""Safety processes forked from one that has imported what they need: a third of a second less for every node.

Each is still a process of its own and runs the real ``main()`` with the real arguments. That it starts by itself is
seen wherever a test starts ``scripts/act``.
"""

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from unittest import mock

SUBREAPER = 36  # prctl(2): whether orphans below this process become its children


class Fork:
    """What :class:`spec_vla_ros.node.safety_link.SafetyLink` uses of ``subprocess.Popen``."""

    def __init__(self, door, command, *, stdout, pass_fds, **_):
        libc = ctypes.CDLL(None)
        words = json.dumps({"parent": os.getpid(), "arguments": command[command.index("--setup") :]})
        libc.prctl(SUBREAPER, 1)
        try:
            socket.send_fds(door, [words.encode()], [*pass_fds, stdout])
            self.pid, self.returncode = int(door.recv(16)), None
        finally:
            libc.prctl(SUBREAPER, 0)
        self._lock = threading.Lock()

    def poll(self):
        with self._lock:
            if self.returncode is None and (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
                self.returncode = os.waitstatus_to_exitcode(ended[1])
        return self.returncode

    def wait(self, timeout=None):
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("the safety process", timeout)
            time.sleep(0.002)
        return self.returncode

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, 9)


@contextlib.contextmanager
def safety_processes():
    """Within, nodes of this process get forks."""
    import processes

    from spec_vla_ros.node import safety_link

    door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with door, theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=processes.environment())
        theirs.close()
        popen = mock.Mock(wraps=subprocess, Popen=lambda command, **more: Fork(door, command, **more))
        with mock.patch.object(safety_link, "subprocess", popen):
            yield
    server.wait()


def _serve(door):
    from spec_vla_ros.node import safety_node

    while True:
        words, descriptors, _, _ = socket.recv_fds(door, 2**16, 2)
        if not words:
            return 0
        if child := os.fork():
            os.waitpid(child, 0)
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        if os.fork():
            os._exit(0)
        link, output = descriptors
        told = json.loads(words)
        while os.getppid() != told["parent"]:
            time.sleep(0.001)
        for number in (1, 2):
            os.dup2(output, number)
        os.close(output)
        door.send(str(os.getpid()).encode())
        door.close()
        return safety_node.main(["--fd", str(link), *told["arguments"]])


if __name__ == "__main__":
    sys.exit(_serve(socket.socket(fileno=int(sys.argv[1]))))
