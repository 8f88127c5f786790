"""The policies: what crosses the border to the node."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from spec_vla_ros.decoding import timing
from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.errors import ImageError, InstructionError, NonFiniteError
from spec_vla_ros.openvla import devices
from spec_vla_ros.openvla.example import write_example_checkpoint
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.policy import OpenVLAPolicy, ScriptedPolicy
from spec_vla_ros.policy_types import DecodeSettings, Policy

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS, GREEDY = DecodeSettings(acceptance_radius=0), DecodeSettings(decoder="autoregressive")
TEXT = "pick up the red block"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The example model, loaded once."""
    return load_model(write_example_checkpoint(tmp_path_factory.mktemp("policy") / "example"))


@pytest.fixture
def policy(loaded):
    """A fresh policy, whose trees do not depend on what else this machine does."""
    return OpenVLAPolicy(loaded, planner=Planner(PassCosts.free()))


def frames(count, seed=0):
    """Pictures that differ in brightness and content."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        low = generator.integers(0, 256, (4, 4, 3))
        yield np.kron(low, np.ones((20, 20, 1), dtype=np.int64)).astype(np.uint8)


def test_both_policies_speak_the_protocol(policy):
    assert isinstance(policy, Policy)
    assert isinstance(ScriptedPolicy([[0] * 7]), Policy)


def test_speculative_and_greedy_agree_over_an_episode(loaded):
    speculative, greedy = OpenVLAPolicy(loaded, planner=Planner(PassCosts.free())), OpenVLAPolicy(loaded)
    actions = set()
    for image in frames(40):
        ours, theirs = speculative.infer(image, TEXT, SETTINGS), greedy.infer(image, TEXT, GREEDY)
        assert ours.tokens.tolist() == theirs.tokens.tolist()
        np.testing.assert_array_equal(ours.values, theirs.values)
        actions.add(tuple(ours.tokens))
    assert len(actions) > 5


def test_what_a_broken_off_inference_left_on_the_device_is_waited_for(loaded, monkeypatch):
    """The next one writes into memory that a GPU may still copy from: its drafts would have been of another image. So
    does that of another policy with the same verifier, which knew of nothing.
    """
    events = []
    monkeypatch.setattr(devices, "wait_for", lambda device: events.append(device))
    policy = OpenVLAPolicy(loaded, planner=Planner(PassCosts.free()))
    other = OpenVLAPolicy(loaded, planner=Planner(PassCosts.free()), verifier=policy.verifier)
    run = policy.verifier.run
    monkeypatch.setattr(policy.verifier, "run", lambda *args, **named: events.append("pass") or run(*args, **named))
    image = next(frames(1))
    for one in (policy, other):
        with monkeypatch.context() as broken:
            broken.setattr(type(loaded.statistics), "unnormalise", lambda *_: np.full(7, np.nan))
            with pytest.raises(NonFiniteError):
                policy.infer(image, TEXT, SETTINGS)
        events.clear()
        one.infer(image, TEXT, SETTINGS)
        assert events[0] == loaded.model.device
        assert set(events[1:]) == {"pass"}


def test_the_result_is_complete_and_consistent(policy, loaded):
    result = policy.infer(next(frames(1)), TEXT, SETTINGS)
    assert result.values.shape == result.tokens.shape == result.bins.shape == (7,)
    assert (result.values.dtype, result.tokens.dtype, result.bins.dtype) == (np.float64, np.int64, np.int64)
    np.testing.assert_allclose(result.values, loaded.statistics.unnormalise(loaded.tokens.decode(result.tokens)))
    report = result.report
    assert report.verifier_passes == 7 - sum(report.accepted_per_pass)
    parts = (report.preprocess_ms, report.vision_ms, report.prefill_ms, report.decode_ms)
    assert min(parts) >= 0
    assert sum(parts) <= report.total_ms + 1e-6


def test_a_radius_in_mm_and_mrad_is_rounded_down_to_bins_of_the_statistics(policy, loaded):
    width = 1e3 * loaded.statistics.bin_width()[:6]
    settings = DecodeSettings(radius_mm=2.0, radius_mrad=7.0, acceptance_radius=255)
    bins = np.array(policy.infer(next(frames(1)), TEXT, settings).report.tolerance.bins)
    limits = np.array([2.0] * 3 + [7.0] * 3)
    assert (bins[:6] * width <= limits + 1e-6).all()
    assert ((bins[:6] + 1) * width > limits).all()
    assert bins[6] == 0


def test_settings_that_do_not_fit_the_action_are_refused_and_leave_the_history(policy):
    image = next(frames(1))
    policy.infer(image, TEXT, SETTINGS)
    for wrong, why in (({"radius_per_dimension": (1, 2, 3)}, "has 3 values, the action has 7"),
                       ({"radius_mm": -1.0}, "radius_mm must be finite and not negative, got -1.0")):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            policy.infer(image, TEXT, DecodeSettings(**wrong))
    assert policy.infer(image, TEXT, DecodeSettings(drafters=("hold",))).report.verifier_passes == 1


def test_presets_are_carried_out_without_heads(policy):
    report = policy.infer(next(frames(1)), TEXT, DecodeSettings(preset="auto")).report
    assert report.drafters == ("refine", "hold", "sweep", "forecast")
    assert policy.infer(next(frames(1)), TEXT, DecodeSettings(preset="autoregressive")).report.verifier_passes == 7
    assert policy.describe()["draft_heads"] == "none"


def test_what_passes_take_is_measured_once_and_kept(loaded, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = []
    monkeypatch.setattr(timing, "measure", lambda *args, real=timing.measure: measured.append(1) or real(*args))
    monkeypatch.setattr(timing, "agree", lambda *args: agreeing)
    agreeing, first = True, OpenVLAPolicy(loaded)
    first.warm_up(TEXT)
    table = first.planner(TEXT).costs
    assert 0 < min(table.first) <= max(table.first) < 60
    assert 0 < min(table.later) <= max(table.later) < 60
    assert set(table.drafting) == {"refine", "hold", "velocity", "sweep", "forecast"}
    assert min(min(both) for both in table.drafting.values()) > 0
    first.warm_up(TEXT)
    second = OpenVLAPolicy(loaded)
    assert (second.planner(TEXT).costs, len(measured)) == (table, 1)
    agreeing = False  # something else kept the device busy when it was measured
    OpenVLAPolicy(loaded).warm_up(TEXT)
    assert len(measured) == 2


def test_without_a_folder_to_keep_it_in_it_is_measured_each_time(loaded, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    policy = OpenVLAPolicy(loaded)
    policy.warm_up(TEXT)
    report = policy.infer(next(frames(1)), TEXT, DecodeSettings(preset="auto", second_look=0.0)).report
    assert report.verifier_passes <= 7


def test_an_action_that_was_measured_before_it_is_the_same_action(loaded, tmp_path, monkeypatch):
    """Measuring uses the cache of the verifier, and may come with the very first action."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    image, settings = next(frames(1, 3)), DecodeSettings(acceptance_radius=0)
    assert (
        OpenVLAPolicy(loaded).infer(image, TEXT, settings).tokens.tolist()
        == OpenVLAPolicy(loaded).infer(image, TEXT, GREEDY).tokens.tolist()
    )


@pytest.mark.parametrize("preset", ["auto", "training_free"])
def test_the_automatic_tree_of_any_device_gives_the_tokens_of_plain_decoding_at_radius_0(loaded, preset):
    dear, free = PassCosts((0, 64), (1.0, 90.0), (1.0, 90.0)), PassCosts.free()
    rows = []
    for costs in (dear, free):
        ours, theirs = OpenVLAPolicy(loaded, planner=Planner(costs)), OpenVLAPolicy(loaded)
        for image in frames(12):
            result = ours.infer(image, TEXT, DecodeSettings(preset=preset, acceptance_radius=0))
            assert result.tokens.tolist() == theirs.infer(image, TEXT, GREEDY).tokens.tolist()
            rows.append(sum(result.report.drafted_per_pass))
    assert max(rows[:12]) < min(rows[12:]), "rows that cost something are spent sparingly"


def test_an_unchanged_view_takes_one_pass_until_the_reset(policy):
    image = next(frames(1))
    policy.infer(image, TEXT, SETTINGS)
    again = policy.infer(image, TEXT, SETTINGS)
    assert again.report.verifier_passes == 1
    assert again.report.drafter_per_pass == ("hold",)
    policy.reset()
    fresh = policy.infer(image, TEXT, SETTINGS).report
    assert fresh.verifier_passes > 1 or fresh.max_accepted_distance > 0  # no copy of the action at hand


def test_a_failed_inference_leaves_the_history_alone(policy):
    image = next(frames(1))
    policy.infer(image, TEXT, SETTINGS)
    with pytest.raises(ImageError):
        policy.infer(image[..., :2], TEXT, SETTINGS)
    with pytest.raises(InstructionError):
        policy.infer(image, "  ", SETTINGS)
    with pytest.raises(ValueError, match="unknown drafters"):
        policy.infer(image, TEXT, DecodeSettings(drafters=("oracle",)))
    assert policy.infer(image, TEXT, SETTINGS).report.verifier_passes == 1


def test_another_instruction_is_heard(policy):
    image = next(frames(1))
    texts = (TEXT, "put the green block on the plate", "push the blue block to the left", TEXT)
    tokens = [tuple(policy.infer(image, text, GREEDY).tokens) for text in texts]
    assert tokens[0] == tokens[3]
    assert len(set(tokens)) > 1


@pytest.mark.parametrize("action_dim", [4, 8])
def test_the_statistics_decide_the_number_of_dimensions(tmp_path, action_dim):
    policy = OpenVLAPolicy(load_model(write_example_checkpoint(tmp_path / "model", action_dim=action_dim)))
    image = next(frames(1))
    for settings in (SETTINGS, SETTINGS, GREEDY):
        assert policy.infer(image, TEXT, settings).values.shape == (action_dim,)


def test_the_description_names_model_and_key(policy):
    described = policy.describe()
    assert described["unnorm_key"] == "example"
    assert described["dtype"] == "float32"
    assert all(isinstance(value, str) for value in described.values())


def test_diagnostics_say_which_prompt_was_read(policy):
    """Words were dropped on the way to the prompt, and nothing showed it."""
    from spec_vla_ros.node.diagnostics import DecodeWindow
    from spec_vla_ros.node.worker import Outcome

    window = DecodeWindow()
    for text in (TEXT, "Pick </s>up  the <red> cup."):
        window.add(Outcome(None, policy.infer(next(frames(1)), text, SETTINGS), None, 0.1))
    assert window.values(())["prompt"] == (r"In: What action should the robot take to pick up  the <red> cup.?\nOut:")
    window.add(Outcome(None, ScriptedPolicy([[0.0] * 7]).infer(IMAGE, TEXT, SETTINGS), None, 0.1))
    assert "prompt" not in window.values(())


def test_diagnostics_say_which_way_an_image_became_a_picture(policy):
    """Which of the ways is in use was written nowhere, and the wrong one is never obvious."""
    from spec_vla_ros.node.diagnostics import DecodeWindow, decoding_summary
    from spec_vla_ros.node.worker import Outcome

    window, worker = DecodeWindow(), SimpleNamespace(description=policy.describe(), bin_width=())
    before = decoding_summary(worker, window)[2]
    assert (before["image_resize"], before["picture"]) == ("evaluation", "any size -> JPEG -> Lanczos to 56x56")
    for height, width in ((480, 640), (1280, 720)):
        result = policy.infer(np.zeros((height, width, 3), np.uint8), TEXT, SETTINGS)
        window.add(Outcome(None, result, None, 0.1))
        seen = decoding_summary(worker, window)[2]["picture"]
        assert seen == f"{width}x{height} -> JPEG -> Lanczos to 56x56", "of the image that was looked at last"
    window.add(Outcome(None, ScriptedPolicy([[0.0] * 7]).infer(IMAGE, TEXT, SETTINGS), None, 0.1))
    assert "picture" not in window.values(()), "nobody looked"


def test_what_is_nothing_but_control_tokens_is_refused_by_the_policy(policy):
    for text in ("</s>", "<s> <unk>.", "<</s>s>"):
        with pytest.raises(InstructionError):
            policy.infer(next(frames(1)), text, SETTINGS)


IMAGE = np.zeros((4, 4, 3), np.uint8)


def test_a_script_is_played_in_order_and_stays_at_its_end():
    policy = ScriptedPolicy([[0.1] * 7, [0.2] * 7])
    assert [policy.infer(IMAGE, "go", SETTINGS).values[0] for _ in range(3)] == [0.1, 0.2, 0.2]
    assert policy.inferences == 3
    assert policy.instructions == ["go"] * 3


def test_a_script_may_start_over():
    policy = ScriptedPolicy([[0.1] * 7, [0.2] * 7], repeat=True)
    assert [policy.infer(IMAGE, "go", SETTINGS).values[0] for _ in range(3)] == [0.1, 0.2, 0.1]


def test_a_script_may_raise_compute_and_give_nan():
    script = [NonFiniteError("as told"), lambda image, text: np.full(7, image.mean()), [float("nan")] * 7]
    policy = ScriptedPolicy(script)
    with pytest.raises(NonFiniteError, match="as told"):
        policy.infer(IMAGE, "go", SETTINGS)
    assert policy.infer(IMAGE + 3, "go", SETTINGS).values[0] == 3
    result = policy.infer(IMAGE, "go", SETTINGS)
    assert np.isnan(result.values).all()
    assert (result.bins >= 0).all()


def test_a_script_takes_its_time_through_the_given_sleep():
    slept = []
    ScriptedPolicy([[0] * 7], delay=0.25, sleep=slept.append).infer(IMAGE, "go", SETTINGS)
    assert slept == [0.25]


def test_a_script_checks_its_input_like_a_model():
    policy = ScriptedPolicy([[0] * 7])
    with pytest.raises(ImageError):
        policy.infer(IMAGE[0], "go", SETTINGS)
    with pytest.raises(InstructionError):
        policy.infer(IMAGE, " ", SETTINGS)
    with pytest.raises(ValueError, match="shape"):
        ScriptedPolicy([[0] * 6]).infer(IMAGE, "go", SETTINGS)
    with pytest.raises(ValueError, match="at least one"):
        ScriptedPolicy([])


def test_a_scripted_policy_needs_no_torch():
    code = (
        "import sys; from spec_vla_ros.policy import ScriptedPolicy; ScriptedPolicy([[0] * 7]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
