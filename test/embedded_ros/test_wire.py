"""What goes to DDS: the three overrides of cyclonedds, discovery settings, announced user data."""

import time
import uuid

import pytest
from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from sensor_msgs.msg import Image
from std_msgs.msg import String

from spec_vla_ros.embedded_ros import cdr, wire
from spec_vla_ros.embedded_ros.qos import QoSProfile

DEFAULT = QoSProfile(depth=10)


@pytest.fixture
def joined(ros):
    from rclpy.context import Context

    context = Context()
    context.init([])
    yield context.wire
    context.try_shutdown()


def until(condition, limit=10.0):
    end = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.005)
    return found


def test_bytes_pass_unchanged_and_a_leaving_writer_does_no_harm(joined):
    name = f"rt/hook_{uuid.uuid4().hex}"
    reader = joined.reader(name, String, DEFAULT)
    writer = joined.writer(name, String, DEFAULT)
    until(writer.get_matched_subscriptions)
    sent = cdr.serialize(String(data="abc"))
    wire.write_cdr(writer, sent)
    received, info = until(lambda: wire.take_cdr(reader))
    assert received[: len(sent)] == sent
    assert info.valid_data
    del writer  # its instance ends: a sample without data arrives, which goes through deserialize_key
    states = []

    def gone():
        states.extend(reader.read(10))
        return any(not sample.sample_info.valid_data for sample in states)

    until(gone)
    assert wire.take_cdr(reader) is None


def test_type_information_has_the_real_fields(joined):
    """Another DDS program that describes String by itself, with XTypes checking, matches and understands."""
    name = f"rt/plain_{uuid.uuid4().hex}"
    plain = make_idl_struct("String_", "std_msgs::msg::dds_::String_", {"data": str})
    assert issubclass(plain, IdlStruct)
    stranger = DomainParticipant(joined.domain_id)
    qos = Qos(Policy.Reliability.Reliable(10**9), Policy.DataRepresentation(True, False), Policy.History.KeepLast(10))
    reader = DataReader(stranger, Topic(stranger, name, plain), qos=qos)
    writer = joined.writer(name, String, DEFAULT)
    until(writer.get_matched_subscriptions)
    wire.write_cdr(writer, cdr.serialize(String(data="grüß dich")))
    assert until(lambda: reader.take(1))[0].data == "grüß dich"


def test_a_program_with_plain_samples_is_understood(joined):
    name = f"rt/plain_{uuid.uuid4().hex}"
    plain = make_idl_struct("String_", "std_msgs::msg::dds_::String_", {"data": str})
    stranger = DomainParticipant(joined.domain_id)
    qos = Qos(Policy.Reliability.Reliable(10**9), Policy.DataRepresentation(True, False))
    writer = DataWriter(stranger, Topic(stranger, name, plain), qos=qos)
    reader = joined.reader(name, String, DEFAULT)
    until(writer.get_matched_subscriptions)
    writer.write(plain(data="abc"))
    assert cdr.deserialize(until(lambda: wire.take_cdr(reader))[0], String).data == "abc"


def test_endpoints_announce_the_type_hash(joined):
    name = f"rt/hash_{uuid.uuid4().hex}"
    writer = joined.writer(name, Image, DEFAULT)
    reader = joined.reader(name, Image, DEFAULT)
    handle = until(writer.get_matched_subscriptions)[0]
    data = writer.get_matched_subscription_data(handle).qos[Policy.Userdata].data
    assert data == b"typehash=RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47;"
    assert reader.get_matched_publications()


def test_one_topic_has_one_type(joined):
    name = f"rt/two_{uuid.uuid4().hex}"
    joined.writer(name, String, DEFAULT)
    with pytest.raises(ValueError, match="already has type"):
        joined.writer(name, Image, DEFAULT)


def test_user_data_escapes_semicolons():
    text = wire.user_data(serviceid="a;b", typehash="RIHS01_00")
    assert text == "serviceid=a;;b;typehash=RIHS01_00;"
    assert wire.parse_user_data(text.encode()) == {"serviceid": "a;b", "typehash": "RIHS01_00"}
    assert wire.parse_user_data(b"\xff nonsense;;") == {}


def test_quality_of_service_on_the_wire():
    from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data

    qos = QoSProfile(depth=3, durability=DurabilityPolicy.TRANSIENT_LOCAL).to_dds("", writer=True)
    assert Policy.DataRepresentation(True, False) in qos  # XCDR1 and nothing else: ROS 2 speaks no other
    assert Policy.WriterDataLifecycle(autodispose=False) in qos
    assert Policy.DurabilityService(0, Policy.History.KeepLast(3), -1, -1, -1) in qos
    assert qos[Policy.Reliability].max_blocking_time == 2**63 - 1
    sensor = qos_profile_sensor_data.to_dds("", writer=False)
    assert sensor[Policy.Reliability] == Policy.Reliability.BestEffort
    assert sensor[Policy.History] == Policy.History.KeepLast(5)
    assert QoSProfile(history=1, depth=1).to_dds("", writer=False)[Policy.History] == Policy.History.KeepLast(1)


def test_a_writer_of_a_service_neither_waits_nor_hoards(joined):
    """For a peer that confirms nothing. rclpy's profile for parameters would keep a thousand replies for it."""
    from rclpy.qos import qos_profile_parameters, qos_profile_services_default
    from std_srvs.srv import Trigger

    for profile, depth in ((qos_profile_parameters, 100), (qos_profile_services_default, 10)):
        name = f"rr/kept_{uuid.uuid4().hex}Reply"
        qos = joined.writer(name, Trigger.Response, profile, service=True).get_qos()
        assert qos[Policy.Reliability].max_blocking_time == 0
        assert qos[Policy.History] == Policy.History.KeepLast(depth)


def test_localhost_names_the_interface():
    xml = wire.discovery_xml({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})
    assert "name='lo' multicast='false'" in xml
    assert wire.discovery_xml({"ROS_LOCALHOST_ONLY": "1"}) == xml
    assert wire.discovery_xml({"ROS_AUTOMATIC_DISCOVERY_RANGE": "nonsense"}) == xml


def test_peers_and_off():
    assert "<Peer address='10.0.0.2'/><Peer address='h'/>" in wire.discovery_xml({"ROS_STATIC_PEERS": "10.0.0.2; h"})
    assert "<Tag>" in wire.discovery_xml({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"})


def test_a_peer_can_find_this_host_by_its_ports():
    """A host that lists us and that we do not list: it can only guess ports, so they must not be arbitrary."""
    for scope in ("SUBNET", "LOCALHOST", ""):
        assert "<ParticipantIndex>auto<" in wire.discovery_xml({"ROS_AUTOMATIC_DISCOVERY_RANGE": scope})


def test_localhost_with_peers_reaches_them():
    """In ROS 2 the range limits what is found by itself; named peers are talked to all the same, but not through lo."""
    xml = wire.discovery_xml({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "10.0.0.2"})
    assert "<Peer address='127.0.0.1'/><Peer address='10.0.0.2'/>" in xml
    assert "<AllowMulticast>false<" in xml
    assert "NetworkInterface" not in xml


def test_the_system_default_is_left_alone():
    assert wire.discovery_xml({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT", "ROS_STATIC_PEERS": "h"}) == ""


def test_the_users_settings_come_last_and_name_interfaces_alone(tmp_path):
    interfaces = "<Interfaces><NetworkInterface name='lo'/></Interfaces>"
    mine = f"<CycloneDDS><Domain><General>{interfaces}</General></Domain></CycloneDDS>"
    file = tmp_path / "dds.xml"
    file.write_text(mine)
    for uri in (mine, f"file://{file}"):
        xml = wire.discovery_xml({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "CYCLONEDDS_URI": uri})
        assert xml.endswith(f",{uri}")
        assert "NetworkInterface" not in xml.removesuffix(uri)
        assert "<Peer address='127.0.0.1'/>" in xml


def test_asking_the_graph_again_and_again_costs_no_memory(make_node):
    """The act node looks for rivals several times per second; each look cost kilobytes that were never freed."""
    import gc

    from rosgraph_msgs.msg import Clock

    def resident():
        gc.collect()
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    node = make_node()
    node.create_publisher(Clock, "/clock", 10)
    for _ in range(200):
        node.count_publishers("/clock")
    before = resident()
    for _ in range(3000):
        assert node.count_publishers("/clock") == 1
    assert resident() - before < 1500, "KiB; it was 7000"


def test_a_peer_that_is_discovered_while_peers_are_listed_raises_nothing():
    """cyclonedds counts, then lists: one more in between ended the process that streams velocities."""
    from spec_vla_ros.embedded_ros.wire import matched

    answers = iter([IndexError("invalid index"), [1, 2]])

    def ask():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert matched(ask) == [1, 2]


def test_a_burst_of_a_large_image_finds_room():
    """Cyclone asks for 1 MiB, and half of the images of 1280 x 720 were lost; the user's own setting comes later."""
    xml = wire.discovery_xml({"CYCLONEDDS_URI": "<Internal><SocketReceiveBufferSize max='1MB'/></Internal>"})
    assert 0 < xml.index("max='16MB'") < xml.index("max='1MB'")
