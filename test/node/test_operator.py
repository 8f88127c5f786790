"""What an operator can do while the node runs: instruct, tune, look."""

import pytest


def policy(*steps, **more):
    from spec_vla_ros.policy import ScriptedPolicy

    return ScriptedPolicy(list(steps), **more)


# -- instructions


def test_instructions_before_activation_are_ignored(rig):
    from rig import image
    from std_msgs.msg import String

    heard = []
    one = rig(dry_run=False)
    one.probe.create_subscription(String, "instruction", heard.append, 10)
    one.until(lambda: one.instructions.get_subscription_count() == 3)
    one.say("move before activation")
    one.until(lambda: heard)
    frames = []
    one.camera = lambda: frames.append(1)
    one.until(lambda: len(frames) >= 3)  # the node, served by the same executor, has heard it too
    one.camera = lambda: image(one.now())
    one.activate()
    one.until(lambda: "NO_INSTRUCTION" in one.control().get("message", ""))
    one.say("move now")
    one.until_moving()
    assert set(one.policy.instructions) == {"move now"}


def test_a_new_instruction_takes_over_and_forgets_the_history(rig):
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until(lambda: one.actions)
    resets = one.policy.resets
    one.say("put down the block")
    one.until(lambda: one.actions[-1].instruction == "put down the block")
    assert one.policy.resets == resets + 1


def test_a_repeated_instruction_disturbs_nothing(rig):
    """Some operators publish at a fixed rate."""
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until(lambda: one.actions)
    resets = one.policy.resets
    one.say(DRIVING["instruction"])
    count = len(one.actions)
    one.until(lambda: len(one.actions) >= count + 2)
    assert one.policy.resets == resets == 1


def test_words_reach_the_policy_as_they_were_said(rig):
    """Which strings are control tokens only the policy's tokenizer knows; words in brackets were dropped in silence."""
    one = rig(dry_run=False).activate()
    one.say("Pick up\n the <red block>,  not [BLUE].\n")
    one.until(lambda: one.actions)
    assert one.actions[0].instruction == "Pick up  the <red block>,  not [BLUE]."


def test_a_bad_instruction_is_refused_and_the_arm_holds(rig):
    """Not ignored: whoever sent it did not mean "carry on"."""
    from rig import DRIVING, six

    one = rig(**DRIVING).activate()
    one.until_moving()
    for number, text in enumerate(("</s>", "<s></s><pad>", "\n\t\x01", "...", "x" * 401)):
        one.say(text)
        one.until_fault("INSTRUCTION_INVALID")
        assert one.control()["level"] == 1, "a warning: nothing is latched"
        one.until_still()
        assert not any(six(message).any() for message in one.until_ticks(30))
        one.say(f"go on {number}")
        one.until_moving()
        one.until(lambda: one.actions[-1].instruction == f"go on {number}")  # noqa: B023 - at once
        one.until(lambda: "fault" not in one.control())


def test_a_blank_instruction_means_hold(rig):
    """What operators send between two tasks: no error, but the arm stops in the middle of its step."""
    from rig import DRIVING, six

    one = rig(**DRIVING).activate()
    one.until_moving()
    for text in ("", " \n"):
        one.say(text)
        one.until_fault("NO_INSTRUCTION")
        assert one.control()["level"] == 1
        assert one.control()["remedy"]
        one.until_still()
        assert not any(six(message).any() for message in one.until_ticks(30))
        one.say("go on")
        one.until_moving()
        one.until(lambda: "fault" not in one.control())


def test_an_instruction_that_the_policy_refuses_holds_without_a_latch(rig):
    from rig import DRIVING, FORWARD

    from spec_vla_ros.errors import InstructionError

    one = rig(policy(InstructionError("the prompt has 300 tokens"), FORWARD), **DRIVING).activate()
    one.until_fault("INSTRUCTION_INVALID")
    one.say("shorter")
    one.until_moving()


def test_the_answer_to_an_old_instruction_is_dropped(rig):
    import threading

    from rig import DRIVING

    started, release = threading.Event(), threading.Event()

    def think(_):
        started.set()
        release.wait(20)

    one = rig(policy([0.01] + [0.0] * 6, [0.0] * 7, delay=1, sleep=think), **DRIVING).activate()
    one.until(started.is_set)
    one.say("something else")
    one.until(lambda: one.control().get("instruction") == "something else")
    release.set()
    one.until(lambda: one.actions)
    assert one.actions[0].instruction == "something else"
    assert one.actions[0].delta[0] == 0.0


def test_the_instruction_parameter_counts_also_when_it_is_set_to_what_it_is(rig):
    """The topic has said something else meanwhile; comparing values would miss that the operator wants it back."""
    from rig import DRIVING, six

    one = rig(**DRIVING).activate()
    one.until(lambda: one.actions)
    one.say("something else")
    one.until(lambda: one.actions[-1].instruction == "something else")
    assert one.set(instruction=DRIVING["instruction"])
    one.until(lambda: one.actions[-1].instruction == DRIVING["instruction"])
    one.say("something else")
    assert one.set(instruction="")
    one.until(lambda: one.control().get("fault") == "NO_INSTRUCTION")
    one.say("something else")
    one.until_moving()
    one.until(lambda: "fault" not in one.control())
    assert one.set(instruction="")
    one.until_fault("NO_INSTRUCTION")
    one.until_still()
    assert not any(six(message).any() for message in one.until_ticks(20)), "hold, also if it was blank before"


def test_the_instruction_parameter_works_while_running(rig):
    one = rig(dry_run=False).activate()
    assert one.set(instruction="from a parameter")
    one.until(lambda: one.actions)
    assert one.actions[0].instruction == "from a parameter"
    assert not one.set(instruction="</s>")


# -- parameters


def test_a_change_shows_up_with_the_next_action_and_in_its_statistics(rig):
    from rig import DRIVING, FORWARD

    one = rig(step_dt=0.05, **DRIVING).activate()
    one.until(lambda: one.stats)
    changes = {
        "preset": "custom",
        "acceptance_radius": 4,
        "draft_depth": 3,
        "emit": "draft",
        "decoder": "autoregressive",
        "drafters": ["velocity"],
        "action_scale": 0.25,
    }
    assert one.set(**changes)
    one.until(lambda: one.stats[-1].draft_depth == 3 and one.actions[-1].action_scale == 0.25)
    stats = one.stats[-1]
    assert list(stats.acceptance_radius) == [4] * 6 + [0]
    assert (stats.emit, stats.decoder, list(stats.drafters)) == ("draft", "autoregressive", ["velocity"])
    assert one.actions[-1].delta[0] == pytest.approx(FORWARD[0]), "the action itself is not scaled"


def test_an_inference_keeps_the_settings_it_started_with(rig):
    import threading

    from rig import DRIVING

    started, release = threading.Event(), threading.Event()

    def think(_):
        started.set()
        release.wait(20)

    one = rig(policy([0.0] * 7, delay=1, sleep=think), **DRIVING).activate()
    one.until(started.is_set)
    assert one.set(acceptance_radius=1, action_scale=0.125)
    release.set()
    one.until(lambda: len(one.stats) >= 2 and len(one.actions) >= 2)
    assert [stats.acceptance_radius[0] for stats in one.stats[:2]] == [9, 1]
    assert [action.action_scale for action in one.actions[:2]] == [1.0, 0.125]


def test_every_slider_takes_its_ends_and_middle_and_nothing_beyond(rig):
    """rqt's sliders produce 100 positions between the ends; all of them must be acceptable."""
    from spec_vla_ros.node.parameters import PARAMETERS

    one = rig(preset="custom")
    tried = 0
    for spec in PARAMETERS:
        if spec.range is None or spec.read_only:
            continue
        low, high = spec.range
        kind = type(spec.default)
        for share in (0.0, 0.01, 0.37, 0.5, 1.0):
            assert one.set(**{spec.name: kind(low + share * (high - low))}), (spec.name, share)
        beyond = (high + 1, low - 1) if kind is int else (high * 1.01 + 0.01, low - 0.01, float("nan"), float("inf"))
        for value in beyond:
            assert not one.set(**{spec.name: kind(value) if value == value and abs(value) < 1e9 else value})
        assert not one.set(**{spec.name: str(low)}), "another type"
        tried += 1
    assert tried >= 10


def test_no_position_of_a_slider_in_rqt_is_a_value_that_the_node_refuses():
    """rqt_reconfigure sends whole hundredths of a range's length, and shows them as set even if they were refused."""
    from spec_vla_ros.node.parameters import PARAMETERS

    for spec in PARAMETERS:
        if spec.range is None or spec.read_only or not isinstance(spec.default, float):
            continue
        low, high = spec.range
        scale = 100 / (high - low)
        positions = [position / scale for position in range(round(low * scale), round(high * scale) + 1)]
        assert all(low - 1e-9 <= value <= high + 1e-9 for value in positions), spec.name
        assert positions[0] == pytest.approx(low, abs=1e-9), spec.name


def test_what_is_fixed_at_load_is_refused_later(rig):
    from spec_vla_ros.node.parameters import PARAMETERS

    one = rig()
    fixed = [spec for spec in PARAMETERS if spec.read_only]
    assert {"model", "unnorm_key", "device", "dtype", "command_frame", "step_dt", "publish_rate"} <= {
        spec.name for spec in fixed
    }
    for spec in fixed:
        assert not one.set(**{spec.name: spec.default}), spec.name


@pytest.mark.parametrize(
    "bad",
    [
        {"decoder": "fast"},
        {"emit": "both"},
        {"drafters": ["hold", "oracle"]},
        {"instruction": "<pad>"},
        {"preset": "best"},
    ],
)
def test_a_value_that_is_no_choice_is_refused(rig, bad):
    assert not rig().set(**bad)


def test_what_a_preset_decides_is_refused_until_it_is_custom(rig):
    """Taken in silence, the change would have no effect, and the operator would measure the wrong thing."""
    one = rig(preset="training_free")
    for name, value in {"decoder": "autoregressive", "drafters": ["hold"], "draft_width": 2, "emit": "draft"}.items():
        assert not one.set(**{name: value}), name
    assert one.set(acceptance_radius=3, draft_depth=2)
    assert one.set(preset="custom")
    assert one.set(drafters=["hold"], draft_width=2)


def test_what_a_preset_decides_may_be_set_to_what_it_is(rig):
    """``ros2 param load`` of a dump of the same node reported four failures."""
    one = rig(preset="auto")
    values = {name: one.node.get_parameter(name).value for name in ("decoder", "drafters", "draft_width", "emit")}
    for name, value in values.items():
        assert one.set(**{name: value}), name
    assert one.set(**values)
    assert not one.set(**values | {"draft_width": 2})


def test_every_parameter_is_described(rig):
    from spec_vla_ros.node.parameters import PARAMETERS

    one = rig()
    for spec in PARAMETERS:
        descriptor = one.node.describe_parameter(spec.name)
        assert descriptor.description
        assert descriptor.read_only == spec.read_only
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        assert len(ranges) == (spec.range is not None)
        for bounds in ranges:
            assert (bounds.from_value, bounds.to_value) == spec.range
            assert bounds.step == (1 if isinstance(spec.default, int) else 0.0)


# -- diagnostics


def test_diagnostics_say_what_a_bring_up_needs(rig):
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until(lambda: len(one.actions) >= 2)
    one.until(lambda: one.control().get("message") == "driving the arm")
    control = one.control()
    assert control["level"] == 0
    assert control["instruction"] == "pick up the block"
    assert float(control["image_age s"]) < 0.5
    one.until(lambda: float(one.control().get("publish interval_ms p99", 0)) > 0)
    one.until(lambda: float(one.control().get("image rate Hz", 0)) > 0)
    one.until(lambda: float(one.control().get("action rate Hz", 0)) > 0)
    assert one.control()["command subscribers"] == "1"
    names = {status.name for message in one.diagnostics for status in message.status}
    assert names == {"act: control", "act: decoding"}
    one.until(lambda: any(pair.key == "inference_ms p99" for pair in one.diagnostics[-1].status[-1].values))


def test_states_are_reported_as_they_change(rig):
    one = rig()
    for trigger, state in (
        ("trigger_configure", "inactive"),
        ("trigger_activate", "active"),
        ("trigger_deactivate", "inactive"),
        ("trigger_cleanup", "unconfigured"),
    ):
        getattr(one.node, trigger)()
        one.until(lambda state=state: one.control().get("state") == state)


# -- settings that do nothing, and those that bound the whole action


def test_settings_that_the_preset_overrules_are_named_at_configure(rig):
    """A set is refused; a file that was read at start could only be ignored, and the operator would not know."""
    from spec_vla_ros.node import parameters

    one = rig(drafters=["hold"], draft_width=3)
    said = parameters.ignored(one.node)
    assert "drafters" in said
    assert "draft_width" in said
    assert "emit" not in said
    assert "custom" in said
    warned = []
    one.node.get_logger = lambda: type(
        "Log", (), {"__getattr__": lambda log, level: lambda text, **_: warned.append(text)}
    )()
    one.node.trigger_configure()
    assert said in warned


def test_nothing_is_said_of_settings_that_are_in_force(rig):
    from spec_vla_ros.node import parameters

    assert parameters.ignored(rig().node) == ""
    assert parameters.ignored(rig(preset="custom", drafters=["hold"], draft_width=3).node) == ""


def test_every_change_of_a_bound_is_in_the_next_tolerance_and_zero_takes_it_back():
    from types import SimpleNamespace

    from spec_vla_ros.node import parameters

    values = {spec.name: spec.default for spec in parameters.PARAMETERS}
    node = SimpleNamespace(get_parameter=lambda name: SimpleNamespace(value=values[name]))
    width = (0.0002,) * 3 + (0.001,) * 3 + (2 / 255,)

    def now(**changes):
        values.update(changes)
        tolerance = parameters.read_tunables(node).decode.tolerance(width)
        return tolerance.bins, tolerance.budget

    usual = ((9,) * 6 + (0,), None)
    assert now() == usual
    assert now(acceptance_mm=1.0) == ((5, 5, 5, 9, 9, 9, 0), None)
    assert now(acceptance_radius=3, acceptance_sum=14) == ((3,) * 6 + (0,), 14)
    assert now(acceptance_radius=20, acceptance_mrad=0.01) == ((5, 5, 5, 0, 0, 0, 0), 14)
    assert now(acceptance_radius=9, acceptance_mm=0.0, acceptance_mrad=0.0, acceptance_sum=0) == usual


def test_the_budget_of_an_action_reaches_the_decoder_and_zero_is_none(rig):
    from spec_vla_ros.node import parameters

    one = rig()
    assert parameters.read_tunables(one.node).decode.radius_sum is None
    assert one.set(acceptance_sum=14, acceptance_mm=2.5)
    decode = parameters.read_tunables(one.node).decode
    assert decode.radius_sum == 14
    assert (decode.radius_mm, decode.radius_mrad) == (2.5, None)
    assert not one.set(acceptance_sum=121)


def test_accepted_tokens_are_of_the_action_and_count_once(ros):
    """With a second look the passes of one action accepted more tokens than an action has."""
    from dataclasses import replace

    import numpy as np

    from spec_vla_ros.node.diagnostics import DecodeWindow
    from spec_vla_ros.node.worker import Outcome
    from spec_vla_ros.policy_types import DecodeSettings

    result = policy([0.0] * 7).infer(np.zeros((8, 8, 3), np.uint8), "go", DecodeSettings())
    sources = ("verifier", "second_look", "second_look", "verifier", "second_look", "second_look", "verifier")
    report = replace(result.report, verifier_passes=4, accepted_per_pass=(5, 0, 2, 2), token_source=sources)
    window = DecodeWindow()
    window.add(Outcome(None, replace(result, report=report), None, 0.1))
    assert window.values(())["accepted tokens per action"] == "4.00"
