"""What others send to an embedded node: too much, garbage, or a question whose answer they never read."""

import contextlib
import itertools
import os
import signal
import struct
import subprocess
import sys
import uuid

import pytest
from cyclonedds.core import DDSException
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from processes import environment
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters, SetParametersAtomically
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Empty, SetBool, Trigger

from spec_vla_ros.embedded_ros import bounds, cdr, endpoints, logging, services
from spec_vla_ros.embedded_ros.qos import qos_profile_parameters
from spec_vla_ros.embedded_ros.wire import take_cdr, write_cdr

LITTLE = b"\x00\x01\x00\x00"


@pytest.fixture(autouse=True)
def talkative(monkeypatch):
    """Every test is told of its refusals; in a node they are told once in a few seconds."""
    monkeypatch.setattr(logging, "_last", {})


class Stranger:
    """A client without manners: sends bytes, and need not have a reader. ``listen`` makes one."""

    def __init__(self, node, srv_type, service, listening=True):
        self.wire, self.kind, self.service, self.id = node.context.wire, srv_type, service, uuid.uuid4().hex
        self.writer = self.wire.writer(
            f"rq{service}Request", srv_type.Request, qos_profile_parameters, service=True, clientid=self.id
        )
        self.reader, self.numbers = None, itertools.count(1)
        if listening:
            self.listen()

    def listen(self):
        self.reader = self.wire.reader(
            f"rr{self.service}Reply", self.kind.Response, qos_profile_parameters, service=True, clientid=self.id
        )

    def send(self, data):
        """Bytes of a request, with encapsulation; returns the number that the reply will have."""
        number = next(self.numbers)
        write_cdr(self.writer, services._with_identity(data, 4711, number))
        return number

    def answer(self):
        """(number, response) of the next reply to us, or None."""
        while (taken := take_cdr(self.reader)) is not None:
            guid, number, body = services._identity(taken[0])
            if guid == 4711:
                return number, cdr.deserialize(body, self.kind.Response)
        return None


@pytest.fixture
def stranger(make_node, spin_until):
    """Make strangers to a service; they are matched."""
    made = []

    def make(node, srv_type, service, listening=True):
        one = Stranger(node, srv_type, service, listening)
        made.append(one)
        spin_until(one.writer.get_matched_subscriptions, node)
        if listening:
            spin_until(one.reader.get_matched_publications, node)
        return one

    yield make
    for one in made:
        one.writer = one.reader = None


@pytest.fixture
def managed(ros):
    from rclpy.lifecycle import LifecycleNode

    node = LifecycleNode(f"managed_{uuid.uuid4().hex[:8]}")
    node.declare_parameter("gain", 0.5)
    yield node
    node.destroy_node()


def until_answer(spin_until, one, node):
    answers = []

    def come():
        if (answer := one.answer()) is not None:
            answers.append(answer)
        return bool(answers)

    spin_until(come, node)
    return answers[0]


# -- requests that are none


def hostile(request):
    """Bytes that somebody may send in place of ``request``."""
    good = cdr.serialize(request)
    yield from (good[:length] for length in range(4, len(good)))
    yield from (b"\x00" + bytes([kind]) + good[2:] for kind in (0, 2, 3, 6, 7, 255))
    yield b"\xff\xff" + good[2:]
    for length in (2**16, 2**24, 2**31, 2**32 - 1):
        yield LITTLE + struct.pack("<I", length) * 8
    yield LITTLE + b"\xff" * 64
    yield LITTLE + b"\xc3\x28\xa0\xa1" * 16  # no UTF-8
    yield LITTLE + b"\x01\x00\x00\x00" * 64
    yield good + b"\x00" * (bounds.MAX_REQUEST - len(good) - 16)
    yield good + b"\x00" * bounds.MAX_REQUEST


def served(entity, data, module=services):
    """Have ``entity`` take these bytes, and the executor run what it makes of them: a peer need not be a Cyclone."""
    taken = [(data, Info())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "take_cdr", lambda _: taken.pop() if taken else None)
        patch.setattr(entity, "condition", Info())
        callback = entity.take_ready()
    if callback is not None:
        callback()


class Info:
    """Of a sample whose writer is not known, and a condition that says that there is one."""

    publication_handle, triggered = 0, True


def test_no_request_ends_the_executor(managed, executor, stranger, spin_until):
    """Every service of a managed node, every kind of garbage; then each still answers a good request."""
    samples = {
        ChangeState: ChangeState.Request(transition=Transition(id=200, label="no\nsuch")),
        SetParameters: SetParameters.Request(parameters=[Parameter(name="gain", value=ParameterValue(type=3))]),
        SetParametersAtomically: SetParametersAtomically.Request(
            parameters=[Parameter(name="gain", value=ParameterValue(type=9, string_array_value=["a", "b"]))]
        ),
        ListParameters: ListParameters.Request(prefixes=["gain"]),
    }
    assert len(list(managed.services)) == 11
    for service in managed.services:
        kind = service.srv_type
        request = samples.get(kind) or kind.Request(**({"names": ["gain"]} if "names" in kind.Request.FIELDS else {}))
        one = stranger(managed, kind, service.srv_name)
        for data in hostile(request):
            with contextlib.suppress(DDSException):  # some are stopped on the way, by the Cyclone at this end
                one.send(data)
            served(service, services._with_identity(data, 4712, 1))
        last = one.send(cdr.serialize(request))
        numbers = []

        def answered(one=one, last=last, numbers=numbers):
            while (answer := one.answer()) is not None:
                numbers.append(answer[0])
            return last in numbers

        spin_until(answered, managed)
    assert managed.get_parameter("gain").value in (0.5, 0.0)


REFUSABLE = [
    (GetParameters, "get_parameters", lambda r: r.values == []),
    (ListParameters, "list_parameters", lambda r: r.result.names == []),
    (SetParameters, "set_parameters", lambda r: not r.results[0].successful and "at most" in r.results[0].reason),
    (
        SetParametersAtomically,
        "set_parameters_atomically",
        lambda r: not r.result.successful and "at most" in r.result.reason,
    ),
    (ChangeState, "change_state", lambda r: not r.success),
]


@pytest.mark.parametrize(("kind", "name", "is_no"), REFUSABLE, ids=[name for _, name, _ in REFUSABLE])
def test_a_request_that_is_too_large_is_answered_with_no(managed, stranger, spin_until, kind, name, is_no, capfd):
    one = stranger(managed, kind, f"/{managed.get_name()}/{name}")
    number = one.send(cdr.serialize(kind.Request()) + bytes(bounds.MAX_REQUEST))
    got, response = until_answer(spin_until, one, managed)
    assert got == number
    assert is_no(response)
    (line,) = [line for line in capfd.readouterr().err.splitlines() if name in line]
    assert str(bounds.MAX_REQUEST) in line


def test_a_response_that_could_be_mistaken_is_not_sent(managed, stranger, spin_until):
    """State 0 is "unknown" and no error, an Empty means that it was done, an empty text is an answer."""
    assert bounds.refusal(GetState.Response, "why") is None
    assert bounds.refusal(Empty.Response, "why") is None
    assert bounds.refusal(GetAvailableTransitions.Response, "why").available_transitions == []
    for kind in (Trigger, SetBool):
        response = bounds.refusal(kind.Response, "why")
        assert (response.success, response.message) == (False, "why")
    one = stranger(managed, GetState, f"/{managed.get_name()}/get_state")
    one.send(cdr.serialize(GetState.Request()) + bytes(bounds.MAX_REQUEST))
    good = one.send(cdr.serialize(GetState.Request()))
    assert until_answer(spin_until, one, managed)[0] == good


def test_a_label_of_any_length_is_a_short_line(managed, stranger, spin_until, capfd):
    one = stranger(managed, ChangeState, f"/{managed.get_name()}/change_state")
    one.send(cdr.serialize(ChangeState.Request(transition=Transition(label="x\n" * 10_000))))
    assert not until_answer(spin_until, one, managed)[1].success
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "not possible" in line]
    assert len(line) < 500


def test_sixty_long_parameters_fit_into_a_request():
    """What a load of a whole file sends, with room to spare."""
    parameters = [
        Parameter(name=f"group.parameter_{i}", value=ParameterValue(type=4, string_value="x" * 400)) for i in range(60)
    ]
    assert len(cdr.serialize(SetParameters.Request(parameters=parameters))) < bounds.MAX_REQUEST / 1.5


def test_a_reply_that_is_too_large_is_not_sent(make_node, spin_until, stranger, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_REPLY", 1000)
    node = make_node("teller")

    def tell(request, response):
        response.success, response.message = True, "x" * 10**4
        return response

    node.create_service(Trigger, "/tell", tell)
    one = stranger(node, Trigger, "/tell")
    one.send(cdr.serialize(Trigger.Request()))
    response = until_answer(spin_until, one, node)[1]
    assert not response.success
    assert "1000" in response.message


# -- replies that nobody hears


def test_a_client_without_a_reader_costs_the_others_nothing(managed, make_node, stranger, spin_until, monkeypatch):
    """The reply waited for it in the executor; were it so still, nobody else would be answered in this test."""
    monkeypatch.setattr(bounds, "REPLY_PATIENCE", 3600.0)
    deaf = stranger(managed, GetParameters, f"/{managed.get_name()}/get_parameters", listening=False)
    for _ in range(40):
        deaf.send(cdr.serialize(GetParameters.Request(names=["gain"])))
    asker = make_node()
    client = asker.create_client(GetParameters, f"/{managed.get_name()}/get_parameters")
    spin_until(client.service_is_ready, managed, asker)
    (service,) = (s for s in managed.services if s.srv_name.endswith("/get_parameters"))
    for _ in range(40):
        future = client.call_async(GetParameters.Request(names=["gain"]))
        spin_until(future.done, managed, asker)
        assert future.result().values[0].double_value == 0.5
    assert len(service._pending) == bounds.MAX_PENDING, "what is kept has a bound"


def test_a_client_whose_reader_is_found_late_gets_its_reply(managed, stranger, executor, spin_until, monkeypatch):
    """As in the first moments of a client's life: request and reply reader are discovered one after the other."""
    monkeypatch.setattr(bounds, "REPLY_PATIENCE", 3600.0)
    one = stranger(managed, GetParameters, f"/{managed.get_name()}/get_parameters", listening=False)
    number = one.send(cdr.serialize(GetParameters.Request(names=["gain"])))
    (service,) = (s for s in managed.services if s.srv_name.endswith("/get_parameters"))
    spin_until(lambda: service._pending, managed)
    assert executor._until_next_look() <= bounds.LOOK_FOR_CLIENTS, "it is not kept waiting either"
    one.listen()
    got, response = until_answer(spin_until, one, managed)
    assert got == number
    assert response.values[0].double_value == 0.5
    assert not service._pending


def test_a_reply_is_given_up_after_a_while(managed, stranger, spin_until, monkeypatch, capfd):
    monkeypatch.setattr(bounds, "REPLY_PATIENCE", 0.0)
    deaf = stranger(managed, GetParameters, f"/{managed.get_name()}/get_parameters", listening=False)
    deaf.send(cdr.serialize(GetParameters.Request(names=["gain"])))
    lines = []

    def told():
        lines.extend(capfd.readouterr().err.splitlines())
        return any("does not listen" in line for line in lines)

    spin_until(told, managed)
    (service,) = (s for s in managed.services if s.srv_name.endswith("/get_parameters"))
    assert not service._pending


STOPPED = """
import os, signal, sys
from spec_vla_ros.embedded_ros.doorway import ensure_rclpy
ensure_rclpy()
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_parameters
from std_srvs.srv import Trigger
rclpy.init(args=[])
node = Node("stopped")
client = node.create_client(Trigger, "/tell", qos_profile=qos_profile_parameters)
assert client.wait_for_service(20)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(60):
    client.call_async(Trigger.Request())
print("asked", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_client_that_was_stopped_does_not_hold_the_service(make_node, spin_until):
    """Ctrl-Z on a client: it confirms nothing, and the writer of replies is full."""
    node, asker = make_node("teller"), make_node()
    asked = []

    def tell(request, response):
        asked.append(1)
        response.success, response.message = True, "x" * 10**5
        return response

    service = node.create_service(Trigger, "/tell", tell, qos_profile=qos_profile_parameters)
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        spin_until(lambda: service._reader.get_matched_publications() and service._writer.get_matched_subscriptions())
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "asked\n"
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        spin_until(lambda: len(asked) >= 30, node, limit=5.0)  # for dead it is taken after ten seconds
        client = asker.create_client(Trigger, "/tell")
        spin_until(client.service_is_ready, node, asker)
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.communicate()
    future = client.call_async(Trigger.Request())
    spin_until(future.done, node, asker)
    assert future.result().success


# -- messages on topics


def topic(spin_until, make_node, kind, **more):
    """(publisher, received) of a topic with a subscription."""
    name, got = f"/t_{uuid.uuid4().hex}", []
    sender, hearer = make_node(), make_node()
    publisher = sender.create_publisher(kind, name, 10)
    hearer.create_subscription(kind, name, got.append, 10, **more)
    spin_until(publisher.get_subscription_count, hearer)
    return publisher, got


@pytest.mark.parametrize("raw", [False, True])
def test_a_message_that_is_too_large_is_dropped(make_node, spin_until, monkeypatch, raw):
    monkeypatch.setattr(bounds, "MAX_MESSAGE", 1000)
    publisher, got = topic(spin_until, make_node, String, raw=raw)
    publisher.publish(String(data="x" * 1000))
    publisher.publish(String(data="short"))
    spin_until(lambda: got and b"short" in cdr.serialize(got[-1]) if not raw else got and b"short" in got[-1])
    assert len(got) == 1


def test_garbage_on_a_topic_is_dropped(make_node, spin_until):
    got, node = [], make_node()
    subscription = node.create_subscription(JointState, f"/t_{uuid.uuid4().hex}", got.append, 10)
    for data in hostile(JointState(name=["a", "b"], position=[0.0, 1.0])):
        served(subscription, data, endpoints)
    served(subscription, cdr.serialize(JointState(name=["last"])), endpoints)
    assert got[-1].name == ["last"]


# -- replies to our own questions


def test_a_reply_that_is_garbage_is_as_if_it_had_not_come(make_node):
    """Anybody may write on the reply topic: it must neither end the executor nor the wait for the true reply."""
    client = make_node().create_client(Trigger, "/silent")
    future = client.call_async(Trigger.Request())
    true = cdr.serialize(Trigger.Response(success=True, message="the true one"))
    lies = [true[:length] for length in range(4, len(true))]
    lies += [b"\x00\x07" + true[2:], LITTLE + b"\xff" * 64, true + bytes(bounds.MAX_REPLY)]
    for lie in lies:
        served(client, services._with_identity(lie, client._guid, 1))
    served(client, services._with_identity(true, client._guid + 1, 1))
    assert not future.done()
    served(client, services._with_identity(true, client._guid, 1))
    assert future.result().message == "the true one"
