"""``spec-vla bench two-hosts``: the act node on another host than camera and arm, and the cable between them pulled.

The hosts are network namespaces; where none can be made, the tests over a link are skipped and say why.
"""

import subprocess
import sys
import threading
import time
from contextlib import suppress
from socket import AF_UNIX, SOCK_SEQPACKET, socketpair

import pytest

from spec_vla_ros import cli
from spec_vla_ros.bench.wire import netns, two_hosts
from spec_vla_ros.bench.wire.netns import Quality
from spec_vla_ros.demo.summary import ActionRecord, TwistRecord
from spec_vla_ros.ros.children import DemoError

MS = 10**6  # ns


# -- what is missing is said


@pytest.fixture
def root(monkeypatch):
    monkeypatch.setattr(netns.os, "geteuid", lambda: 0)


def test_whoever_is_not_root_is_told(monkeypatch, capsys):
    monkeypatch.setattr(netns.os, "geteuid", lambda: 1000)
    assert cli.main(["bench", "two-hosts"]) == 1
    assert "sudo" in capsys.readouterr().err


@pytest.mark.usefixtures("root")
def test_a_missing_command_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(netns.shutil, "which", lambda name: None)
    assert "apt-get install iproute2" in netns.missing()


@pytest.mark.usefixtures("root")
def test_a_machine_that_forbids_namespaces_is_told_apart(monkeypatch):
    def refuse(*words):
        raise DemoError("ip netns add: Operation not permitted")

    monkeypatch.setattr(netns, "_ip", refuse)
    monkeypatch.setattr(netns.shutil, "which", lambda name: f"/sbin/{name}")
    assert "CAP_NET_ADMIN" in netns.missing()
    assert "not permitted" in netns.missing()


# -- the relay


@pytest.fixture
def bridge():
    """Start a relay; returns the two far ends."""
    sockets, threads = [], []

    def start(quality):
        (left, a), (b, right) = (socketpair(AF_UNIX, SOCK_SEQPACKET) for _ in range(2))
        for end in (a, b):
            end.setblocking(False)
        for end in (left, right):
            end.settimeout(5)
        sockets.extend((left, a, b, right))
        threads.append(threading.Thread(target=netns.relay, args=(a.fileno(), b.fileno(), quality)))
        threads[-1].start()
        return left, right

    yield start
    for end in sockets[::4]:
        end.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    for end in sockets:
        end.close()


def test_the_relay_is_late_in_both_directions_and_keeps_the_order(bridge):
    left, right = bridge(Quality(delay_ms=30.0, jitter_ms=10.0))
    for source, target in ((left, right), (right, left)):
        began = time.monotonic()
        for number in range(50):
            source.send(bytes([number]))
        assert target.recv(9) == b"\x00"
        assert time.monotonic() - began >= 0.019
        assert [target.recv(9)[0] for _ in range(49)] == list(range(1, 50))


def test_the_relay_loses_its_share(bridge):
    left, right = bridge(Quality(loss=0.5))
    for _ in range(40):  # in portions that its queue holds
        for _ in range(10):
            left.send(b"x")
        time.sleep(0.001)
    time.sleep(0.2)
    right.setblocking(False)
    arrived = 0
    with suppress(BlockingIOError):
        while right.recv(9):
            arrived += 1
    assert 120 < arrived < 280, "200 of 400, standard deviation 10"


def test_the_relay_filters_multicast_and_nothing_else(bridge):
    left, right = bridge(Quality(multicast=False))
    left.send(b"\x01\x00\x5e\x7f\x00\x01 multicast")
    left.send(b"\xff\xff\xff\xff\xff\xff broadcast, which finds addresses")
    assert b"broadcast" in right.recv(99)


# -- figures


def action(image_ms, inference_ms=30.0):
    return ActionRecord(0, image_ms * MS, 1, inference_ms, ())


def twist(stamp_ms, moving, transit_ms=2):
    return TwistRecord((stamp_ms + transit_ms) * MS, stamp_ms * MS, moving)


def test_an_action_is_timed_until_its_first_velocity_has_arrived():
    twists = [twist(90, True), twist(100, False), twist(135, True), twist(145, True)]
    whole, rest = two_hosts.latencies_ms([action(100)], twists)
    assert whole == pytest.approx([37.0])
    assert rest == pytest.approx([7.0])


def test_an_action_without_motion_is_left_out():
    assert two_hosts.latencies_ms([action(100)], [twist(135, False), twist(500, True)]) == ([], [])


def seen(**more):
    twists = [{"received_ns": t * MS, "stamp_ns": t * MS, "moving": m} for t, m in more.pop("twists", ())]
    times = {"began_ns": 1 * MS, "ended_ns": 9000 * MS, "down_ns": 0, "up_ns": 0, "rearm_ns": 0}
    counts = {"image_bytes": 3, "sent": 10, "received": 8, "refused": {}, "stops": 0}
    return {**times, **counts, "faults": [], "twists": twists, "actions": [], "sink": [], "trouble": "", **more}


def test_the_time_of_a_fault_comes_from_the_nodes_own_log():
    log = "[INFO] [1.0] [act]: active\n[ERROR] [2.500000000] [act]: stopped: IMAGE_STALE: the newest image is\n"
    figures = two_hosts.figures(seen(), log)
    assert (figures["fault"], figures["fault_after_ms"]) == ("IMAGE_STALE", 2499.0)
    assert figures["frames_lost_share"] == 0.2
    after_the_camera = two_hosts.figures(seen(ended_ns=2000 * MS), log)
    assert (after_the_camera["fault"], after_the_camera["fault_after_ms"]) == ("", None)


def test_a_motion_after_the_outage_is_seen():
    log = "[ERROR] [1.600000000] [act]: stopped: IMAGE_STALE: old\n"
    down = {"down_ns": 1000 * MS, "up_ns": 3000 * MS, "rearm_ns": 5000 * MS}
    sink = [(900 * MS, True), (1110 * MS, False), (3500 * MS, True), (3600 * MS, False), (5500 * MS, True)]
    figures = two_hosts.figures(seen(**down, sink=sink, twists=[(3400, True), (3500, False), (5400, True)]), log)
    assert figures["arm_stopped_after_ms"] == 110.0
    assert figures["fault_after_ms"] == 600.0
    assert figures["motions_before_rearming"] == 1
    assert (figures["velocities_before_rearming"], figures["moving_before_rearming"]) == (2, 1)
    assert figures["motions_after_rearming"] == 1


def test_a_host_that_never_found_the_node_is_an_error():
    with pytest.raises(DemoError, match="not found"):
        two_hosts.figures(seen(trouble="the act node was not found"), "")


# -- over a link


@pytest.fixture
def link(ros):
    """Skips where no hosts can be made; afterwards none may be left."""
    if why := netns.missing():
        pytest.skip(why)
    yield
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert not [name for name in netns.Hosts().names.values() if name in left]


@pytest.mark.usefixtures("link")
def test_a_link_that_goes_down_stops_the_arm_and_nothing_moves_until_somebody_arms_again():
    row = two_hosts.run(two_hosts.ROWS["outage"], seconds=4.5)
    assert row["image_to_velocity_ms"]["samples"] > 0, "it drove before"
    assert 80.0 < row["arm_stopped_after_ms"] < 400.0, "the sink's own timeout of 0.1 s after the last velocity"
    assert row["sink_stops"] >= 1
    assert row["fault"] == "IMAGE_STALE"
    assert 400.0 < row["fault_after_ms"] < 1500.0, "image_timeout is 0.5 s"
    assert row["velocities_before_rearming"] > 50, "the link is back, and so is the stream"
    assert row["moving_before_rearming"] == row["motions_before_rearming"] == 0
    assert row["motions_after_rearming"] > 0


@pytest.mark.usefixtures("link")
@pytest.mark.parametrize("name", ["peers", "peers-only"])
def test_without_multicast_hosts_find_each_other_by_name(name):
    row = two_hosts.run(two_hosts.ROWS[name], seconds=1.0)
    assert row["frames_received"] > 0
    assert row["actions"] > 0


@pytest.mark.usefixtures("link")
def test_the_filter_is_one():
    """Without peers they do not find each other over the same link; else the test above would show nothing."""
    with netns.Hosts(two_hosts.ROWS["peers"].quality) as hosts:
        code = (
            "import socket, sys; from spec_vla_ros.bench.wire.netns import enter; enter(sys.argv[1])\n"
            "ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); ear.bind(('', 7400)); ear.settimeout(3)\n"
            "group = socket.inet_aton('239.255.0.1') + socket.inet_aton('10.77.0.2')\n"
            "ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group); print('ready', flush=True)\n"
            "print(ear.recv(9))"
        )
        ear = subprocess.Popen(
            [sys.executable, "-c", code, hosts.names[netns.ACT]],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert ear.stdout.readline() == "ready\n"
        send = (
            "import socket, sys; from spec_vla_ros.bench.wire.netns import enter; enter(sys.argv[1])\n"
            "mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('10.77.0.1'))\n"
            "mouth.sendto(b'multi', ('239.255.0.1', 7400)); mouth.sendto(b'uni', ('10.77.0.2', 7400))"
        )
        subprocess.run([ear.args[0], "-c", send, hosts.names[netns.ARM]], check=True)
        assert ear.communicate(timeout=10)[0] == "b'uni'\n"
