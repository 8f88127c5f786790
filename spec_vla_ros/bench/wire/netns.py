"""Two hosts on one machine: a network namespace for each, and a link between them that can be bad or pulled out.

The link is a pair of ``veth`` devices, to which the kernel's token bucket (``tc`` ``tbf``) can give the rate of a slow
network. Where packets are to be delayed or lost it is a pair of ``tap`` devices with a relay of this file in between:
not every kernel has ``netem``, and the relay keeps packets in order, as a network does. Addresses exist inside the
namespaces only, so nothing leaves the machine. Needs root and ``ip`` of iproute2.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import importlib
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from spec_vla_ros.outermost import undisturbed
from spec_vla_ros.ros.children import DemoError

ARM, ACT = "arm", "act"
ADDRESSES = {ARM: "10.77.0.1", ACT: "10.77.0.2"}  # inside the namespaces
DEVICE = "link0"  # in either namespace
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _TAP_WITHOUT_HEADER = 0x400454CA, 0x1002
_FRAME = 65536  # bytes that one read may return; frames are smaller
_MULTICAST = b"\x01\x00\x5e"  # how the destination of IPv4 multicast begins
_BURST = 64  # frames that are read before the next one is sent


@dataclass(frozen=True)
class Quality:
    """What the link does in either direction. ``delay_ms`` +- ``jitter_ms`` (uniform); ``loss``: share of packets;
    ``rate_mbit``: Mbit/s, 0 = as fast as memory; ``multicast``: False = filtered, as many access points do.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    rate_mbit: float = 0.0
    multicast: bool = True

    @property
    def relayed(self) -> bool:
        """Whether packets pass through the relay."""
        return bool(self.delay_ms or self.jitter_ms or self.loss) or not self.multicast


def missing() -> str:
    """Why two hosts cannot be made here, as a sentence; empty if they can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "two hosts need network namespaces, which only root may make: run it with sudo"
    if shutil.which("ip") is None:
        return "the command ip is missing: apt-get install iproute2"
    name = f"specvla_try_{os.getpid()}"
    try:
        _ip("netns", "add", name)
    except DemoError as error:
        return f"this machine makes no network namespaces (they need CAP_NET_ADMIN and CAP_SYS_ADMIN): {error}"
    _ip("netns", "del", name)
    return ""


def enter(namespace: str) -> None:
    """Move the calling thread, and what it starts from now on, into ``namespace``. Call it before anything else."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), namespace)
    finally:
        os.close(descriptor)


def command(namespace: str, module: str, arguments: Sequence[str] = ()) -> list[str]:
    """Arguments of this file's :func:`main` that run ``main()`` of ``module`` inside ``namespace``."""
    return [namespace, module, *arguments]


def take_down(namespace: str) -> None:
    """Pull the cable."""
    _ip("-n", namespace, "link", "set", DEVICE, "down")


def bring_up(namespace: str) -> None:
    """And put it back."""
    _ip("-n", namespace, "link", "set", DEVICE, "up")


class Hosts:
    """Both namespaces and the link, gone again at the end of the ``with`` block whatever happens in it."""

    def __init__(self, quality: Quality = Quality()) -> None:
        self.quality = quality
        self.names = {host: f"specvla_{host}_{os.getpid()}" for host in (ARM, ACT)}
        self._relay: subprocess.Popen[str] | None = None

    def __enter__(self) -> Hosts:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._remove()

    def _make(self) -> None:
        quality = self.quality
        for name in self.names.values():
            _ip("netns", "add", name)
        if quality.relayed:
            self._start_relay()
        else:
            peer = ("peer", "name", DEVICE, "netns", self.names[ACT])
            _ip("-n", self.names[ARM], "link", "add", DEVICE, "type", "veth", *peer)
        for host, name in self.names.items():
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "address", "add", f"{ADDRESSES[host]}/24", "dev", DEVICE)
            if quality.rate_mbit:
                # The bucket holds what passes in 5 ms, the queue what a cheap switch would hold.
                bucket = f"{max(16, round(quality.rate_mbit * 5 / 8)):d}kb"
                limit = ("rate", f"{quality.rate_mbit:g}mbit", "burst", bucket, "latency", "50ms")
                _run("tc", "-n", name, "qdisc", "add", "dev", DEVICE, "root", "tbf", *limit)
            bring_up(name)

    def _start_relay(self) -> None:
        wanted = json.dumps({"names": list(self.names.values()), **asdict(self.quality)})
        program = f"from {__name__} import relay_main; relay_main()"
        with undisturbed():
            self._relay = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-c", program, wanted], stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        if self._relay.stdout is None or self._relay.stdout.readline() != "ready\n":
            raise DemoError("the relay did not start: it needs the tun driver (/dev/net/tun)")

    def _remove(self) -> None:
        if self._relay is not None:
            self._relay.kill()
            self._relay.communicate()
        for name in self.names.values():
            with contextlib.suppress(DemoError):  # it may not have been made
                _ip("netns", "del", name)


def _run(program: str, *words: str) -> None:
    path = shutil.which(program)
    if path is None:
        raise DemoError(f"the command {program} is missing: apt-get install iproute2")
    done = subprocess.run([path, *words], capture_output=True, text=True)  # noqa: S603 - no shell, our own words
    if done.returncode:
        raise DemoError(f"{program} {' '.join(words)}: {done.stderr.strip()}")


def _ip(*words: str) -> None:
    _run("ip", *words)


# -- the relay ---------------------------------------------------------------------------------------------------------


def relay_main() -> None:
    """Process between two ``tap`` devices; runs until it is killed, and the devices go with it."""
    wanted = json.loads(sys.argv[1])
    names = wanted.pop("names")
    taps = []
    for name in names:
        enter(name)
        taps.append(_tap())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    relay(taps[0], taps[1], Quality(**wanted))


def _tap() -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH14x", DEVICE.encode(), _TAP_WITHOUT_HEADER))
    return descriptor


def relay(first: int, second: int, quality: Quality) -> None:
    """Carry frames between two descriptors, late and with losses, in order."""
    other = {first: second, second: first}
    free_at = {first: 0.0, second: 0.0}  # when the last frame for this side leaves
    queue: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        for source in select.select([first, second], [], [], wait)[0]:
            for _ in range(_BURST):
                try:
                    frame = os.read(source, _FRAME)
                except OSError:  # nothing more, or the device is down
                    break
                if not frame:  # the other end is gone
                    return
                if random.random() < quality.loss:  # noqa: S311 - no secret
                    continue
                if not quality.multicast and frame.startswith(_MULTICAST):
                    continue
                target = other[source]
                late = quality.delay_ms + quality.jitter_ms * random.uniform(-1.0, 1.0)  # noqa: S311
                free_at[target] = max(free_at[target], time.monotonic() + 1e-3 * late)
                count += 1
                heapq.heappush(queue, (free_at[target], count, target, frame))
        now = time.monotonic()
        while queue and queue[0][0] <= now:
            _, _, target, frame = heapq.heappop(queue)
            try:
                os.write(target, frame)
            except OSError:  # down, or its queue is full: a network loses the frame then
                continue


def main() -> int:
    """``namespace module [argument ...]``: run ``main()`` of ``module`` in ``namespace``."""
    namespace, module = sys.argv[1:3]
    enter(namespace)  # before the import, which may start threads
    sys.argv[1:] = sys.argv[3:]
    return importlib.import_module(module).main()
