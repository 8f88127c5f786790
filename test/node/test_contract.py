"""The node's contract in every lifecycle state: who hears what, and what comes last."""

import numpy as np
import pytest


def test_nothing_is_on_the_wire_before_activation_and_zeros_after(rig):
    """Velocities sent by an inactive node once moved an arm that was being set up."""
    one = rig(dry_run=False)
    one.say("move")
    assert one.node.trigger_configure().name == "SUCCESS"
    one.say("move")
    frames = []
    one.camera = lambda: frames.append(1)
    one.until(lambda: len(frames) >= 10)
    assert one.heard_before_sentinel() == []


def test_without_an_instruction_the_stream_is_zero(rig):
    from rig import six

    one = rig(dry_run=False).activate()
    assert not any(six(message).any() for message in one.until_ticks(50))
    assert "NO_INSTRUCTION" in one.control()["message"] or "NO_IMAGE" in one.control()["message"]
    assert one.policy.inferences == 0


def test_velocities_are_fresh_framed_and_regular(rig):
    from rig import DRIVING, seconds

    one = rig(**DRIVING).activate()
    one.until_moving()
    first = seconds(one.now())
    messages = one.until_ticks(100)
    took = seconds(one.now()) - first
    assert {message.header.frame_id for message in messages} == {"base_link"}
    assert 0.9 < took < 1.5, "100 Hz"
    stamps = np.array([seconds(message.header.stamp) for message in messages])
    assert (np.diff(stamps) > 0).all()
    assert first - 0.1 < stamps[0]
    assert seconds(one.now()) - stamps[-1] < 0.1


@pytest.mark.parametrize("leave", ["trigger_deactivate", "trigger_shutdown"])
def test_zero_is_the_last_message(rig, leave):
    from rig import DRIVING, six

    one = rig(**DRIVING).activate()
    one.until_moving()
    getattr(one.node, leave)()
    heard = one.heard_before_sentinel()
    assert any(six(message).any() for message in heard)
    assert not six(heard[-1]).any()


def test_after_shutdown_no_command_publisher_remains(rig):
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.node.trigger_shutdown()
    for topic in ("/delta_twist_cmds", "/gripper_command"):
        one.until(lambda topic=topic: one.probe.count_publishers(topic) == 0)


def test_cleanup_forgets_the_model_and_configure_brings_it_back(rig):
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until(lambda: one.actions)
    one.node.trigger_deactivate()
    one.node.trigger_cleanup()
    one.until(lambda: one.probe.count_publishers("/delta_twist_cmds") == 0)
    one.actions.clear()
    one.activate()
    one.until(lambda: one.actions)
    assert one.actions[0].sequence == 1


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ("CheckpointError", "CHECKPOINT_INVALID"),
        ("StatisticsError", "STATISTICS_INVALID"),
        ("SelfCheckError", "SELF_CHECK_FAILED"),
        ("RuntimeError", "WORKER_EXCEPTION"),
    ],
)
def test_a_policy_that_does_not_load_fails_configure_by_name(rig, error, fault):
    import builtins

    from spec_vla_ros import errors

    kind = getattr(errors, error, None) or getattr(builtins, error)
    one = rig(kind("the reason"))
    assert one.node.trigger_configure().name == "FAILURE"
    one.until(lambda: "the reason" in one.control().get("message", ""))
    assert one.control()["fault"] == fault
    assert one.probe.count_publishers("/delta_twist_cmds") == 0


def test_a_policy_of_another_action_dimension_fails_configure(rig):
    from spec_vla_ros.policy import ScriptedPolicy

    one = rig(ScriptedPolicy([[0.0] * 14], action_dim=14))
    assert one.node.trigger_configure().name == "FAILURE"
    one.until(lambda: "14 dimensions" in one.control().get("message", ""))


def test_a_second_publisher_refuses_activation(rig):
    from geometry_msgs.msg import TwistStamped
    from rig import DRIVING, FAILURE, SUCCESS

    one = rig(**DRIVING)
    rival = one.probe.create_publisher(TwistStamped, "delta_twist_cmds", 10)
    assert one.node.trigger_configure() == SUCCESS
    one.until(lambda: one.node.count_publishers("/delta_twist_cmds") == 2)
    assert one.node.trigger_activate() == FAILURE
    one.until_fault("SECOND_PUBLISHER")
    assert one.twists == []
    one.probe.destroy_publisher(rival)
    one.until(lambda: one.node.count_publishers("/delta_twist_cmds") == 1)
    assert one.node.trigger_activate() == SUCCESS
    one.until_moving()


def test_a_dry_run_tells_everything_and_moves_nothing(rig):
    from rig import DRIVING
    from std_msgs.msg import Float64

    one = rig(**{**DRIVING, "dry_run": True}).activate()
    one.until(lambda: len(one.actions) >= 2 and len(one.stats) >= 2)
    assert not any(action.commanded for action in one.actions)
    one.node.trigger_deactivate()
    assert one.heard_before_sentinel() == []
    assert one.heard_before_sentinel("gripper_command", Float64, one.grippers) == []


def test_switching_to_a_dry_run_leaves_the_arm_standing_and_back_sends_the_gripper(rig):
    from rig import DRIVING, six

    one = rig(**{**DRIVING, "dry_run": True}).activate()
    one.until(lambda: one.actions)
    assert one.set(dry_run=False)
    one.until_moving()
    one.until(lambda: one.grippers, what="the gripper command that the dry run held back")
    assert one.set(dry_run=True)
    one.until(lambda: one.twists and not six(one.twists[-1]).any() and not one.actions[-1].commanded)
    actions = len(one.actions)
    one.until(lambda: len(one.actions) > actions)  # by then the last zero, sent on another topic, has arrived as well
    count, actions = len(one.twists), len(one.actions)
    one.until(lambda: len(one.actions) >= actions + 2)
    assert len(one.twists) == count


def test_control_does_not_need_the_ros_clock(rig):
    """With use_sim_time and no /clock a node-clock timer never ticks; the stream and the dead-man must."""
    one = rig(dry_run=False, use_sim_time=True, first_image_timeout=0.3)
    one.camera = lambda: None
    one.activate()
    one.until_ticks(20)
    one.until_fault("NO_IMAGE")


def test_a_rival_on_the_remapped_topic_is_seen(rig):
    """The name that counts is the one on the wire, for example MoveIt Servo's."""
    from geometry_msgs.msg import TwistStamped
    from rig import DRIVING, FAILURE

    topic = "/servo_node/delta_twist_cmds"
    one = rig(arguments=["-r", f"delta_twist_cmds:={topic}"], **DRIVING)
    one.probe.create_publisher(TwistStamped, topic, 10)
    one.node.trigger_configure()
    one.until(lambda: one.node.count_publishers(topic) == 2)
    assert one.node.trigger_activate() == FAILURE
    one.until_fault("SECOND_PUBLISHER")
