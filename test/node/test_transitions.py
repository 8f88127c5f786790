"""Every transition, and every way in which one can fail: where it ends, what is last on the wire, who remains."""

import gc
import weakref

import pytest


def moving(rig, **more):
    from rig import DRIVING

    one = rig(**{**DRIVING, **more}).activate()
    one.until_moving()
    return one


def state(one):
    """What the runtime itself says, not the node."""
    return one.node._state_machine.current_state[1] if hasattr(one.node, "_state_machine") else one.node._state


def commanders(one):
    return one.probe.count_publishers("/delta_twist_cmds")


def zero_was_last(one):
    from rig import six

    heard = one.heard_before_sentinel()
    return not heard or not six(heard[-1]).any()


@pytest.mark.parametrize("start", ["unconfigured", "inactive", "active"])
def test_shutdown_from_every_state_leaves_nobody_on_the_command_topic(rig, start):
    from rig import DRIVING, SUCCESS

    one = rig(**DRIVING)
    if start != "unconfigured":
        assert one.node.trigger_configure() == SUCCESS
    if start == "active":
        one.until(lambda: commanders(one) == 1)
        assert one.node.trigger_activate() == SUCCESS
        one.until_moving()
    assert one.node.trigger_shutdown() == SUCCESS
    assert one.node._state == "finalized"
    one.until(lambda: commanders(one) == 0)
    assert zero_was_last(one)


def test_after_cleanup_there_is_no_publisher_and_no_model(rig):
    from rig import SUCCESS

    one = moving(rig)
    policy, one.policy = weakref.ref(one.policy), None
    one.node._policy_factory = None
    assert one.node.trigger_deactivate() == SUCCESS
    assert one.node.trigger_cleanup() == SUCCESS
    one.until(lambda: commanders(one) == 0)
    gc.collect()
    assert policy() is None, "a model that is still referred to keeps its GPU memory"
    assert zero_was_last(one)


def broken(*_, **__):
    raise RuntimeError("a defect in a transition")


def test_an_exception_while_activating_leads_back_to_unconfigured(rig, monkeypatch):
    from rig import DRIVING, SUCCESS

    one = rig(**DRIVING)
    assert one.node.trigger_configure() == SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(one.node._cycle, "start", broken)
        assert one.node.trigger_activate().name == "ERROR"
    assert one.node._state == "unconfigured"
    one.until(lambda: commanders(one) == 0)
    assert one.twists == []
    one.activate()
    one.until_moving()


def test_an_exception_while_deactivating_still_ends_in_zero(rig, monkeypatch):
    one = moving(rig)
    with monkeypatch.context() as patch:
        patch.setattr(one.node._cycle, "stop", broken)
        one.node.trigger_deactivate()
    one.until(lambda: commanders(one) == 0)
    assert zero_was_last(one)


def test_an_exception_while_cleaning_up_leaves_no_publisher(rig, monkeypatch):
    from rig import SUCCESS

    one = moving(rig)
    assert one.node.trigger_deactivate() == SUCCESS
    release = one.node._release
    calls = []

    def once(*arguments, **more):
        calls.append(1)
        if len(calls) == 1:
            broken()
        release(*arguments, **more)

    monkeypatch.setattr(one.node, "_release", once)
    one.node.trigger_cleanup()
    assert one.node._state == "unconfigured"
    one.until(lambda: commanders(one) == 0)
    assert zero_was_last(one)


def test_nothing_reaches_the_arm_while_inactive_whatever_arrives(rig):
    from rig import DRIVING, SUCCESS
    from std_msgs.msg import Float64

    one = rig(**DRIVING)
    assert one.node.trigger_configure() == SUCCESS
    one.say("move now")
    assert one.set(instruction="move now")
    frames = []
    camera = one.camera
    one.camera = lambda: frames.append(1) or camera()
    one.until(lambda: len(frames) >= 10)
    assert one.policy.inferences == 0
    assert one.heard_before_sentinel() == []
    assert one.heard_before_sentinel("gripper_command", Float64, one.grippers) == []


def test_configure_says_what_it_is_doing_while_a_model_loads(rig):
    """A 7B model takes a minute; an operator must be able to tell loading from hanging."""
    import time

    from rig import SUCCESS

    from spec_vla_ros.policy import ScriptedPolicy

    one = rig()
    one.node._policy_factory = lambda fixed: time.sleep(0.5) or ScriptedPolicy([[0.0] * 7])
    assert one.node.trigger_configure() == SUCCESS
    texts = []
    one.until(lambda: texts.extend(s.message for m in one.diagnostics for s in m.status) or "inactive" in texts)
    assert "configuring: loading the policy" in texts
