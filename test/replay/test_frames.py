"""Which images count, and what the recording says about them."""

import numpy as np
import pytest

pytest.importorskip("mcap")

from recordings import PERIOD, START, header, image_message

from spec_vla_ros.recordings.frames import ACTION, Frames, action_topics
from spec_vla_ros.recordings.reader import Bag, BagError


def frames(folder, **more):
    bag = Bag(folder)
    return Frames(bag, bag.image_topic(), **more)


def string(text):
    return lambda store: store.types["std_msgs/msg/String"](data=text)


def said(text, ns):
    return ("/instruction", "std_msgs/msg/String", ns, string(text))


def test_one_image_per_step_and_all_of_them_on_request(make_bag):
    folder = make_bag(frames=12)  # every 0.1 s
    assert [frame.index for frame in frames(folder, period=0.2)] == list(range(6))
    some = frames(folder, period=0.2)
    stamps = np.array([frame.stamp_ns for frame in some])
    assert (np.diff(stamps) == 2 * PERIOD).all()
    assert (some.used, some.between) == (6, 6)
    assert len(list(frames(folder, period=0.0))) == 12


def test_a_new_instruction_begins_an_episode_and_a_repeated_one_does_not(make_bag):
    folder = make_bag(
        frames=12,
        extra=[
            said("pick up the red block", START + 350_000_000),
            said("touch the <s>blue block", START + 650_000_000),
            said("", START + 950_000_000),
        ],
    )
    some = frames(folder, period=0.0)
    seen = [(frame.instruction, frame.fresh) for frame in some]
    assert [fresh for _, fresh in seen] == [True] + 6 * [False] + [True] + 2 * [False]
    assert seen[-1][0] == "touch the <s>blue block", "what a control token is, the policy knows"
    assert some.without_instruction == 2, "a blank one means hold"


def test_a_given_instruction_replaces_the_recorded_ones(make_bag):
    some = list(frames(make_bag(instruction=None), instruction="touch the green block", period=0.0))
    assert {frame.instruction for frame in some} == {"touch the green block"}


def test_a_bag_without_instructions_asks_for_one(make_bag, tmp_path):
    folder = make_bag(instruction=None)
    bag = Bag(folder)
    del bag.topics["/instruction"]
    with pytest.raises(BagError, match="--instruction"):
        Frames(bag, bag.image_topic())


def test_instructions_of_a_node_in_a_namespace_are_found_and_two_such_have_to_be_chosen_from(make_bag):
    bag = Bag(make_bag())
    bag.topics["/left/instruction"] = bag.topics.pop("/instruction")
    assert Frames(bag, bag.image_topic()).instruction_topic == "/left/instruction"
    bag.topics["/right/instruction"] = "std_msgs/msg/String"
    with pytest.raises(BagError, match=r"which topic is the instruction.*/left/instruction, /right/instruction"):
        Frames(bag, bag.image_topic())
    with pytest.raises(BagError, match="/speech is no std_msgs/String or DeltaAction topic"):
        Frames(bag, bag.image_topic(), "/speech")


def test_an_instruction_that_cannot_be_used_is_told_and_nothing_is_done_under_it(make_bag):
    some = frames(make_bag(instruction="x" * 5000), period=0.0)
    assert list(some) == []
    assert len(some.refused) == 1
    assert some.without_instruction == 12


def test_an_image_that_cannot_be_read_is_counted_by_its_reason(make_bag):
    def broken(store):
        return store.types["sensor_msgs/msg/Image"](
            header=header(store, START), height=4, width=4, encoding="rgb8", is_bigendian=0, step=12,
            data=np.zeros(5, np.uint8),
        )  # fmt: skip

    folder = make_bag(extra=[("/camera/image_raw", "sensor_msgs/msg/Image", START + 2_050_000_000, broken)])
    some = frames(folder, period=0.0)
    assert len(list(some)) == 12
    assert list(some.unreadable.values()) == [1]
    assert "truncated" in next(iter(some.unreadable))


def action(ns, x, commanded, topic="/act/action", text="go", late=10_000_000):
    def build(store):
        return store.types[ACTION](
            header=header(store, ns), sequence=1, delta=np.array([x, 0, 0, 0, 0, 0], np.float32), gripper=1.0,
            step_dt=0.2, action_scale=0.5, limit_factor=0.5, commanded=commanded, instruction=text,
            tokens=np.zeros(7, np.int32), bins=np.zeros(7, np.int32),
            step=np.zeros(6, np.float32), unseen=np.zeros(6, np.float32), compensation="none",
        )  # fmt: skip

    return (topic, ACTION, ns + late, build)


def test_recorded_actions_are_compared_as_the_model_said_them_and_only_those_that_the_arm_was_given(make_bag):
    """Replayed actions know of no scale and no limit, so that those of a recording must not either."""
    first, second = START + 1000, START + 1000 + PERIOD
    folder = make_bag(frames=3, extra=[action(first, 0.02, True), action(second, 0.03, False)])
    assert action_topics(Bag(folder)) == ["/act/action"]
    some = frames(folder, period=0.0, command_topic="/act/action")
    assert len(list(some)) == 3
    np.testing.assert_allclose(some.commands.at(first, 0.2), [0.02, 0, 0, 0, 0, 0], rtol=1e-6)
    assert some.commands.at(second, 0.2) is None
    assert some.commands.not_commanded == 1


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
def test_actions_of_an_earlier_definition_are_read_as_they_were_defined(tmp_path, plugin):
    """Fields were added to DeltaAction; a recording says itself what it holds."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    from spec_vla_ros.installed import share_path

    lines = (share_path("msg") / "DeltaAction.msg").read_text().splitlines()
    older = [line for line in lines if line.split()[1:2] not in (["step"], ["unseen"], ["compensation"])]
    assert len(older) == len(lines) - 3
    store, stamp = get_typestore(Stores.ROS2_JAZZY), START + 1000
    store.register(get_types_from_msg("\n".join(older), ACTION))
    message = store.types[ACTION](
        header=header(store, stamp), sequence=1, delta=np.array([0.02, 0, 0, 0, 0, 0], np.float32), gripper=1.0,
        step_dt=0.2, action_scale=0.5, limit_factor=1.0, commanded=True, instruction="go",
        tokens=np.zeros(7, np.int32), bins=np.zeros(7, np.int32),
    )  # fmt: skip
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin[plugin]) as writer:
        images = writer.add_connection("/camera", "sensor_msgs/msg/Image", typestore=store)
        actions = writer.add_connection("/act/action", ACTION, typestore=store)
        picture = image_message(store, stamp, np.zeros((8, 8, 3), np.uint8))
        writer.write(images, stamp, store.serialize_cdr(picture, "sensor_msgs/msg/Image"))
        writer.write(actions, stamp, store.serialize_cdr(message, ACTION))
    some = frames(tmp_path / "bag", period=0.0, command_topic="/act/action")
    assert len(list(some)) == 1
    np.testing.assert_allclose(some.commands.at(stamp, 0.2), [0.02, 0, 0, 0, 0, 0], rtol=1e-6)


def test_a_topic_that_says_nothing_of_motion_is_no_command_topic(make_bag):
    with pytest.raises(BagError, match=r"/instruction is no DeltaAction or TwistStamped topic; there are: none"):
        frames(make_bag(frames=2), command_topic="/instruction")


def test_recorded_velocities_become_the_motion_of_a_step_where_their_topic_is_named(make_bag):
    """0.1 m/s for 0.2 s, sent every 0.05 s, are 20 mm."""

    def twist(ns):
        def build(store):
            vector = store.types["geometry_msgs/msg/Vector3"]
            motion = store.types["geometry_msgs/msg/Twist"](
                linear=vector(x=0.1, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=0.5)
            )
            return store.types["geometry_msgs/msg/TwistStamped"](header=header(store, ns), twist=motion)

        return ("/servo_node/delta_twist_cmds", "geometry_msgs/msg/TwistStamped", ns, build)

    folder = make_bag(extra=[twist(START + index * 50_000_000) for index in range(40)])
    assert action_topics(Bag(folder)) == [], "nothing says whose velocities these are, or how they were scaled"
    some = frames(folder, period=0.0, command_topic="/servo_node/delta_twist_cmds")
    first = next(frame for frame in list(some) if frame.index == 2)
    np.testing.assert_allclose(some.commands.at(first.stamp_ns, 0.2), [0.02, 0, 0, 0, 0, 0.1], rtol=0.3)
    assert some.commands.at(START + 10**12, 0.2) is None


# -- a bag of the node itself, in which nobody has recorded what the operator said


def at(index):
    """Stamp (ns) of an image of the bag."""
    return START + 1000 + index * PERIOD


def test_the_instruction_is_found_in_the_actions_of_the_node(make_bag):
    """A replay of a bag of the node itself found no instruction, though every action carries it."""
    spoken = [
        action(at(2), 0.01, True, text="pick up the cup", late=3 * PERIOD),
        action(at(7), 0.01, True, text="hold it"),
    ]
    folder = make_bag(frames=12, instruction=None, extra=spoken)
    some = frames(folder, period=0.0)
    assert some.instruction_topic == "/act/action"
    assert some.first_instruction() == "pick up the cup"
    seen = [(frame.stamp_ns, frame.instruction, frame.fresh) for frame in some]
    assert seen == [
        (at(index), "pick up the cup" if index < 7 else "hold it", index in (2, 7)) for index in range(2, 12)
    ], "from the image that it was said for, although the action was recorded later"
    assert some.without_instruction == 2
    both = frames(folder, period=0.0, command_topic="/act/action")
    assert len(list(both)) == 10
    assert len(both.commands.actions) == 2, "the same topic says what the arm was told"


def test_what_the_operator_said_counts_more_than_the_actions(make_bag):
    folder = make_bag(frames=6, instruction="pick up the red block", extra=[action(at(0), 0.01, True)])
    assert frames(folder).instruction_topic == "/instruction"
    assert frames(folder, instruction_topic="/act/action").first_instruction() == "go", "unless they are named"


def test_an_instruction_topic_without_a_word_does_not_hide_the_actions(make_bag):
    """A recorder of all topics writes down that there is one, also where the parameter said it."""
    bag = Bag(make_bag(frames=3, extra=[action(at(0), 0.01, True)]))
    bag.counts["/instruction"] = 0
    assert Frames(bag, bag.image_topic()).instruction_topic == "/act/action"


def test_actions_of_two_nodes_have_to_be_chosen_from(make_bag):
    one, other = (
        action(at(0), 0.01, True, topic="/left/act/action"),
        action(at(0), 0.01, True, topic="/right/act/action"),
    )
    bag = Bag(make_bag(frames=3, extra=[one, other]))
    del bag.topics["/instruction"]
    with pytest.raises(BagError, match=r"which topic is the instruction.*/left/act/action, /right/act/action"):
        Frames(bag, bag.image_topic())


def test_actions_from_before_a_gap_do_not_count_after_it():
    from spec_vla_ros.recordings.frames import _Carried

    carried = _Carried([(10, "one"), (20, "two")])
    assert [carried.at(stamp) for stamp in (9, 10, 19, 20, 99)] == ["", "one", "one", "two", "two"]
    carried.forget(15)
    assert [carried.at(stamp) for stamp in (15, 20)] == ["", "two"]
