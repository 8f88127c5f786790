"""The instruction topic: every publisher is heard, and none brings back what has been replaced."""

from types import SimpleNamespace

import pytest


@pytest.fixture
def ear(ros, monkeypatch):
    """The subscription without a network: what it was told, and what it has passed on."""
    from spec_vla_ros.node import instructions as module

    said, now = [], [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    node = SimpleNamespace(create_subscription=lambda *_, **__: None)
    heard = module.Instructions(node, lambda message: said.append(message.data))

    def tell(*events):
        for kind, text in events:
            (heard.on_reliable if kind == "reliable" else heard.on_best_effort)(SimpleNamespace(data=text))
        told, said[:] = list(said), []
        return told

    tell.now = now
    return tell


def test_a_late_copy_does_not_bring_back_what_was_replaced(ear):
    """Hold came after go on the reliable way, and the copies arrive behind both."""
    assert ear(("reliable", "go"), ("reliable", ""), ("other", "go"), ("other", "")) == ["go", ""]
    assert ear(("other", "go")) == ["go"], "said anew, and by somebody else"


def test_a_lost_copy_leaves_no_trace(ear):
    assert ear(("reliable", "one"), ("reliable", "two"), ("other", "two"), ("other", "one")) == ["one", "two", "one"]
    assert ear(("reliable", "one")) == ["one"]
    ear.now[0] += 1.5
    assert ear(("other", "one")) == ["one"], "nobody's copy after so long"


def test_the_reliable_way_always_counts(ear):
    """It has the order in which things were said, so it ends with the last."""
    assert ear(("other", "two"), ("reliable", "one"), ("reliable", "two"))[-1] == "two"
    assert ear(("other", "a"), ("reliable", "a"), ("other", "a")) == ["a", "a", "a"], (
        "no copy of the first is waited for"
    )


def test_what_is_remembered_does_not_grow(ear):
    assert len(ear(*(("other", f"{index}") for index in range(1000)))) == 1000
    assert len(ear(*(("reliable", f"{index}") for index in range(1000)))) == 1000


@pytest.mark.parametrize("reliability", ["RELIABLE", "BEST_EFFORT"])
def test_every_kind_of_publisher_is_heard(rig, reliability, capfd):
    """A best-effort one was not, on some middlewares without a word."""
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from std_msgs.msg import String

    one = rig(dry_run=False)
    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability])
    publisher = one.probe.create_publisher(String, "instruction", profile)
    one.activate()
    one.until(lambda: publisher.get_subscription_count() >= 1)
    publisher.publish(String(data="pick up the cup"))
    one.until(lambda: one.actions, what="an action")
    assert one.actions[0].instruction == "pick up the cup"
    assert one.policy.resets == 1, "once, although it came twice"
    assert "No messages will be received" not in capfd.readouterr().err, "rclpy's view of one of the two"
