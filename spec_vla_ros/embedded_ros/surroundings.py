"""The environment variables by which a process joins a domain, checked before Cyclone DDS sees them.

What Cyclone does not like it tells on standard error, and then the binding knows a number and nothing else. A peer
whose name means no address ends the whole process in C; so peers are looked up here, and tried in a process of their
own first.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from spec_vla_ros.errors import CommandError
from spec_vla_ros.foreign_text import printable, sentence, shortened

URI, PEERS, DOMAIN, RANGE = "CYCLONEDDS_URI", "ROS_STATIC_PEERS", "ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"
LAST_DOMAIN = 232  # with the next one ports would be above 65535
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
PATIENCE = 60.0  # s for a resolver that does not answer
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:]+|[0-9a-fA-F:]+:[0-9a-fA-F:.]*)(:(?P<port>\d+))?")
_LINE = re.compile(r"^\d+\.\d+ \[\w+\]\s+[^:]+: ")  # what Cyclone writes in front: time, domain, thread
_REHEARSAL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from spec_vla_ros.embedded_ros.wire import make_domain
make_domain(int(sys.argv[1]), sys.stdin.read())
"""

Result = TypeVar("Result")


class SettingsError(CommandError, RuntimeError):
    """With this environment no domain can be joined; the message names the variable and what to do."""


def domain_id(environment: Mapping[str, str], given: int | None = None) -> int:
    """``given``, else ROS_DOMAIN_ID, else 0. Raises :class:`SettingsError`."""
    text = str(given) if given is not None else environment.get(DOMAIN) or "0"
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) > LAST_DOMAIN:
        raise SettingsError(f"{DOMAIN} must be a number in 0..{LAST_DOMAIN}, not {shortened(text)}")
    return int(text)


def odd_range(environment: Mapping[str, str]) -> str:
    """What is odd about ROS_AUTOMATIC_DISCOVERY_RANGE, as a sentence; empty if nothing is."""
    text = environment.get(RANGE, "")
    if not text or text.upper() in RANGES:
        return ""
    return f"{RANGE} is {shortened(text)}, expected one of {', '.join(RANGES)}; as in ROS 2 that means LOCALHOST"


def peers_of(environment: Mapping[str, str]) -> list[str]:
    """The addresses of ROS_STATIC_PEERS."""
    return [peer.strip() for peer in environment.get(PEERS, "").split(";") if peer.strip()]


def check(environment: Mapping[str, str]) -> None:
    """Raise :class:`SettingsError` for an address of ROS_STATIC_PEERS that means nothing here, and for a folder in
    place of a file in CYCLONEDDS_URI, of which Cyclone reads nothing without a word.
    """
    for part in _files(environment.get(URI, "")):
        if os.path.isdir(file_of(part)):
            raise SettingsError(f"{URI}: {shortened(part)} is a folder, expected an XML file or XML")
    sixth = re.search(r"udp6|tcp6", settings_text(environment.get(URI, "")), re.IGNORECASE)
    family, kind = (socket.AF_UNSPEC, "") if sixth else (socket.AF_INET, "IPv4 ")
    for peer in peers_of(environment):
        found = _HOST.fullmatch(peer)
        if found is None or not 0 < int(found["port"] or 1) < 65536:
            raise SettingsError(f"{PEERS}: {shortened(peer)} is no host and no host:port (peers are separated by ;)")
        try:
            socket.getaddrinfo(found["host"].strip("[]"), None, family)
        except (OSError, UnicodeError) as error:
            raise SettingsError(
                f"{PEERS}: {shortened(peer)} means no {kind}address on this machine ({error}); correct the name, or "
                "give the address"
            ) from error


def settings_text(uri: str) -> str:
    """The XML of a ``CYCLONEDDS_URI``, a list of fragments and files, as far as it can be read."""
    texts = [uri]
    for part in _files(uri):
        try:
            texts.append(file_of(part).read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError):  # said by whoever needs it
            continue
    return "".join(texts)


def _files(uri: str) -> list[str]:
    return [part.strip() for part in uri.split(",") if part.strip() and not part.strip().startswith("<")]


def file_of(part: str) -> Path:
    """The file that one part of a ``CYCLONEDDS_URI`` means."""
    return Path(unquote(part.removeprefix("file://")))


def may_abort(environment: Mapping[str, str]) -> bool:
    """Whether there are addresses among the settings of which a wrong one would end this process."""
    return bool(peers_of(environment)) or "peer" in settings_text(environment.get(URI, "")).lower()


def rehearse(domain: int, xml: str) -> None:
    """Take ``xml`` as the settings of ``domain`` in a process of its own. Raises :class:`SettingsError`."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-c", _REHEARSAL, str(domain)],
            input=xml.encode("utf-8", "surrogateescape"),
            capture_output=True,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # nothing is known then, and Cyclone has to be asked
    if done.returncode:
        raise SettingsError(_refused(done.stderr.decode("utf-8", "replace")))


def attempt(make: Callable[[], Result], refusals: tuple[type[Exception], ...]) -> Result:
    """What ``make`` returns; one of ``refusals`` becomes a :class:`SettingsError` with what Cyclone says meanwhile."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        try:
            before = os.dup(2)
        except OSError:  # no standard error
            return _without_words(make, refusals)
        os.dup2(said.fileno(), 2)
        try:
            return make()
        except refusals as error:
            said.seek(0)
            words = said.read().decode("utf-8", "replace")
            said.truncate(0)
            raise SettingsError(_refused(words) if words.strip() else _plain(error)) from error
        finally:
            os.dup2(before, 2)
            os.close(before)
            said.seek(0)
            if words := said.read():  # warnings
                os.write(2, words)


def _without_words(make: Callable[[], Result], refusals: tuple[type[Exception], ...]) -> Result:
    try:
        return make()
    except refusals as error:
        raise SettingsError(_plain(error)) from error


def _refused(words: str) -> str:
    """A sentence of what Cyclone has said; the variable that it speaks of, and what would help."""
    lines = [_LINE.sub("", line).strip() for line in words.splitlines() if _LINE.match(line)]
    lines = lines or [line.strip() for line in words.splitlines() if line.strip()][-1:]
    said = printable("; ".join(dict.fromkeys(lines)) or "it says nothing")
    who = PEERS if "peer" in said and not os.environ.get(URI) else URI
    if "peer" in said and os.environ.get(PEERS) and os.environ.get(URI):
        who = f"{PEERS} or {URI}"
    if not os.environ.get(URI) and who == URI:
        who = "the network of this machine"
    here = ""
    if "interface" in said.lower():
        here = f" (interfaces here: {', '.join(name for _, name in socket.if_nameindex())})"
    return sentence(f"{who}: Cyclone DDS refuses it: {said}{here}")


def _plain(error: Exception) -> str:
    return sentence(f"Cyclone DDS cannot join the domain: {' '.join(str(error).split())}")
