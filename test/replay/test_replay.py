"""A recording through the real policy: equal twice, to be continued, compared, gated."""

import html
import io
import json
import shutil
import sys

import numpy as np
import processes
import pytest
from PIL import Image

pytest.importorskip("mcap")
pytest.importorskip("torch")

from recordings import MODEL, PERIOD, START

from spec_vla_ros.cli import main
from spec_vla_ros.recordings.errors import ReplayError
from spec_vla_ros.recordings.frames import Frames
from spec_vla_ros.recordings.reader import Bag
from spec_vla_ros.replay import golden
from spec_vla_ros.replay.compare import worst
from spec_vla_ros.replay.gallery import pictures
from spec_vla_ros.replay.options import Options, Settings
from spec_vla_ros.replay.report import NO_PLOTS
from spec_vla_ros.replay.session import replay

PRESETS = ("autoregressive", "fastest")


def options(bag, out, **more):
    return Options(
        **{"bag": bag, "out": out, "model": str(MODEL), "presets": PRESETS, "period": 0.0, "cpu_threads": 1, **more}
    )


def without_times(rows):
    rows = json.loads(json.dumps(list(rows)))
    for row in rows:
        for entry in row["presets"].values():
            entry.pop("ms")
    return rows


def test_the_same_bag_gives_the_same_actions_twice(make_bag, tmp_path):
    bag = make_bag()
    first, second = (replay(options(bag, tmp_path / name)) for name in ("one", "two"))
    assert without_times(first.rows()) == without_times(second.rows())
    assert len(list(first.rows())) == 12
    auto, fast = first.summary
    assert (auto["passes_mean"], auto["equal_actions"]) == (7.0, 1.0)
    assert fast["passes_mean"] < 3
    assert fast["compared_with"] == "autoregressive"
    assert max(fast["drift_bins"]["mean"]) >= 0


def test_the_first_line_says_which_prompt_is_read(make_bag, tmp_path):
    """Of the words that were given, a full stop and what stood in brackets were dropped without a word."""
    bag, lines = make_bag(frames=2), []
    replay(options(bag, tmp_path / "one", instruction="Pick up  the </s><red> block.", report=False), lines.append)
    assert lines[0].endswith(r"; prompt: In: What action should the robot take to pick up  the <red> block.?\nOut:")
    lines.clear()
    replay(options(bag, tmp_path / "two", report=False), lines.append)
    first = next(iter(Bag(bag).messages(["/instruction"]))).message.data
    assert lines[0].endswith(rf"; first prompt: In: What action should the robot take to {first}?\nOut:")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--device", "foo"], "CONFIGURATION_INVALID: device 'foo' is no torch device"),
        (["--dtype", "foo"], "CONFIGURATION_INVALID: dtype 'foo' is none of auto"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(make_bag, tmp_path, capsys, given, sentence):
    """They were tracebacks."""
    assert main(["replay", str(make_bag(frames=2)), "--model", str(MODEL), "--out", str(tmp_path / "o"), *given]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert sentence in said[0]


def test_a_stopped_run_goes_on_and_ends_as_if_it_had_never_stopped(make_bag, tmp_path):
    bag = make_bag()
    whole = replay(options(bag, tmp_path / "whole"))
    data = whole.path.read_bytes()
    for cut in (0.3, 0.55, 0.8):  # in the middle of a row
        folder = tmp_path / f"stopped at {cut}"
        folder.mkdir()
        (folder / "actions.jsonl").write_bytes(data[: int(cut * len(data))])
        again = replay(options(bag, folder))
        assert again.counts["continued_from_row"] >= 1
        assert without_times(again.rows()) == without_times(whole.rows())
        assert again.summary[1]["drift_bins"] == whole.summary[1]["drift_bins"]


def test_rows_of_other_settings_are_not_continued(make_bag, tmp_path):
    bag = make_bag(frames=3)
    replay(options(bag, tmp_path / "out"))
    with pytest.raises(ReplayError, match="acceptance_radius: 9 / 5"):
        replay(options(bag, tmp_path / "out", acceptance_radius=5))
    with pytest.raises(ReplayError, match="bag"):
        replay(options(make_bag(name="other", frames=4), tmp_path / "out"))


def test_everything_that_a_person_looks_at_is_written(make_bag, tmp_path):
    bag, out = make_bag(), tmp_path / "out"
    result = replay(options(bag, out))
    written = Bag(out / "replay_bag")
    assert set(written.topics) == {f"/replay/{p}/{t}" for p in PRESETS for t in ("action", "decode_stats")}
    actions = list(written.messages(["/replay/fastest/action"]))
    rows = list(result.rows())
    assert len(actions) == len(rows) == 12
    np.testing.assert_allclose(actions[5].message.delta, rows[5]["presets"]["fastest"]["values"][:6], rtol=1e-6)
    assert actions[5].log_ns == rows[5]["stamp_ns"]
    stats = list(written.messages(["/replay/fastest/decode_stats"]))
    assert stats[5].message.verifier_passes == rows[5]["presets"]["fastest"]["passes"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["summary"][0]["images"] == 12
    page = (out / "report.html").read_text()
    (verdict,) = summary["verdicts"]
    shown = set(verdict["beyond"]) or {index for index, _, bins in summary["worst"] if bins}
    assert page.count("data:image/jpeg;base64,") == len(shown)
    assert result.answer == summary["answer"]
    assert f"{len(verdict['beyond']) or 'all 12'}" in page
    assert "fastest" in page


def test_of_equally_far_images_the_earlier_are_shown():
    rows = []
    for index, bins in enumerate([2, 2, 2, 5, 2, 4]):
        presets = {preset: {"bins": [bins if preset == PRESETS[-1] else 0, 0, 0, 0, 0, 0, 0]} for preset in PRESETS}
        rows.append({"index": index, "presets": presets})
    assert [(index, bins) for index, _, bins in worst(rows, PRESETS, 3)] == [(3, 5), (5, 4), (0, 2)]


def test_pictures_are_those_of_the_wanted_images_also_of_a_run_that_was_continued(make_bag, scenes):
    """They came from the run itself: rows of an earlier one, or of another choice of images, had none."""
    bag = Bag(make_bag(frames=9))
    frames = Frames(bag, bag.image_topic(), period=0.0)
    list(frames)
    found = pictures(frames.again(), {0, 4, 7, 99})
    assert set(found) == {0, 4, 7}
    for index, data in found.items():
        picture = np.asarray(Image.open(io.BytesIO(data)), dtype=float)
        assert np.abs(picture - scenes[index]).mean() < 3
    assert pictures(frames.again(), ()) == {}


def test_pictures_are_read_no_further_than_the_last_that_is_wanted(make_bag):
    bag = Bag(make_bag(frames=9))
    frames = Frames(bag, bag.image_topic(), period=0.0)
    assert set(pictures(frames, {2})) == {2}
    assert frames.used == 2, "the frames before it"


def test_without_the_plotting_library_the_report_answers_and_says_what_is_missing(make_bag, tmp_path, monkeypatch):
    """It ended in an error after all the work, and there was no report."""
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    bag, lines = make_bag(frames=3), []
    result = replay(options(bag, tmp_path / "out"), lines.append)
    page = result.files["report.html"].read_text()
    assert NO_PLOTS in lines
    assert "pip install" in NO_PLOTS
    assert html.escape(NO_PLOTS) in page
    assert "id='verdict'" in page
    assert "<script" not in page
    monkeypatch.undo()
    replay(options(bag, tmp_path / "out"), lines.append)
    assert "Plotly" in result.files["report.html"].read_text(), "the same command adds them"


def test_a_cut_off_bag_is_replayed_as_far_as_it_goes(make_bag, tmp_path):
    folder = make_bag(frames=60)
    (file,) = folder.glob("*.mcap")
    with file.open("r+b") as stream:
        stream.truncate(int(0.5 * file.stat().st_size))
    result = replay(options(folder, tmp_path / "out", presets=("fastest",)))
    assert 3 <= result.summary[0]["images"] < 60
    assert "broken after" in result.broken
    assert result.broken[:40] in (tmp_path / "out" / "report.html").read_text()


def test_a_preset_without_a_head_is_left_out_with_the_reason(make_bag, tmp_path):
    result = replay(
        options(
            make_bag(frames=2),
            tmp_path / "out",
            draft_heads=str(tmp_path / "none"),
            presets=("autoregressive", "spec_vla"),
        )
    )
    assert [row["preset"] for row in result.summary] == ["autoregressive"]
    assert "spec_vla" in result.left_out[0]


def test_decoding_is_set_as_in_the_node():
    plain = Settings(("fastest",)).of("fastest")
    assert (plain.acceptance_radius, plain.radius_mm, plain.radius_mrad, plain.radius_sum) == (9, None, None, None)
    settings = Settings(("fastest",), 5, 1.5, 0.0, 20, 0.3, 4).of("fastest")
    assert (settings.acceptance_radius, settings.draft_depth) == (5, 4)
    assert (settings.radius_mm, settings.radius_mrad, settings.radius_sum, settings.second_look) == (1.5, None, 20, 0.3)


def test_the_command_decodes_as_the_node_does_unless_it_is_told_otherwise():
    """--second-look was 0 where the node's is 0.5: a replay judged another decoder than the one that drives."""
    from spec_vla_ros.node.parameters import PARAMETERS
    from spec_vla_ros.replay.cli import _parser
    from spec_vla_ros.replay.options import DECODING, Options

    node = {spec.name: spec.default for spec in PARAMETERS}
    said = vars(_parser().parse_args(["bag"]))
    fields = Options.__dataclass_fields__
    for name in DECODING:
        assert said[name] == fields[name].default == node[name], name


def test_no_row_pays_for_what_is_compiled_or_recorded_once(make_bag, tmp_path):
    """Before the first row every policy has been warmed up and asked once; a continued run remembers nevertheless."""
    from spec_vla_ros.policy import ScriptedPolicy
    from spec_vla_ros.recordings.frames import Frames
    from spec_vla_ros.replay.run import Run

    class Told(ScriptedPolicy):
        def __init__(self):
            super().__init__([[0.0] * 7])
            self.calls = []

        def warm_up(self, instruction):
            self.calls.append("warm up")

        def infer(self, *what):
            self.calls.append("infer")
            return super().infer(*what)

        def reset(self):
            self.calls.append("reset")

        def remember(self, tokens):
            self.calls.append("remember")

    folder = make_bag(frames=3)

    def run():
        bag, policies = Bag(folder), {name: Told() for name in PRESETS}
        made = Run(Frames(bag, bag.image_topic(), period=0.0), policies, Settings(PRESETS), tmp_path / "out", {})
        made.run(lambda line: None)
        return [policy.calls for policy in policies.values()], made

    begin = ["warm up", "infer", "reset"]
    assert run()[0] == [[*begin, "reset", "infer", "infer", "infer"]] * 2
    path = tmp_path / "out" / "actions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    assert run()[0] == [[*begin, "reset", "remember", "remember", "infer"]] * 2
    calls, made = run()
    assert (calls, made.warm_up_seconds) == ([[], []], 0.0), "nothing is left to do"


# -- golden files


def test_a_golden_file_is_passed_by_the_same_policy_and_not_by_another(make_bag, tmp_path):
    bag, path = make_bag(), tmp_path / "golden.json"
    result = replay(options(bag, tmp_path / "out", presets=("fastest",)))
    golden.save(path, golden.golden(result.header, result.rows(), "fastest"))
    golden.check(bag, path, model=str(MODEL), period=0.0, cpu_threads=1, mm=0.0, mrad=0.0)
    content = golden.load(path)
    content["actions"][3]["values"][0] += 0.002
    golden.save(path, content)
    with pytest.raises(AssertionError, match=r"image 3: x is .* mm"):
        golden.check(bag, path, model=str(MODEL), period=0.0, cpu_threads=1)
    golden.check(bag, path, model=str(MODEL), period=0.0, cpu_threads=1, mm=3.0)


def command(bag, model, *more):
    return ["replay", str(bag), "--model", str(model), "--period", "0", "--cpu-threads", "1", *map(str, more)]


@pytest.fixture
def own_model(tmp_path, monkeypatch):
    """A copy of the model, in a work folder of its own, where the default --out is."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(MODEL, tmp_path / "model")


def test_a_check_never_takes_the_actions_of_an_earlier_run_for_those_of_today(make_bag, own_model, capsys):
    """The command that saved left rows in --out; the model of the same name has become another one since."""
    bag = make_bag(frames=4)
    assert main(command(bag, own_model, "--presets", "fastest", "--save-golden", "golden.json")) == 0
    assert main(command(bag, own_model, "--check-golden", "golden.json")) == 0
    path = own_model / "dataset_statistics.json"
    text = json.loads(path.read_text())
    entry = next(iter(text.values()))["action"]
    entry["q99"] = [1.5 * value for value in entry["q99"]]
    path.write_text(json.dumps(text))
    capsys.readouterr()
    assert main(command(bag, own_model, "--check-golden", "golden.json")) == 2
    said = capsys.readouterr().out
    assert "image 0: x is" in said
    assert "not as saved, statistics_digest: " in said


def test_a_check_refuses_a_folder_with_the_actions_of_an_earlier_run(make_bag, own_model, capsys):
    words = command(make_bag(frames=2), own_model, "--out", "used")
    assert main([*words, "--presets", "fastest", "--save-golden", "golden.json"]) == 0
    assert main([*words, "--check-golden", "golden.json"]) == 1
    assert "used holds those of an earlier run" in capsys.readouterr().err


def test_rows_of_another_model_or_head_at_the_same_place_are_not_continued(make_bag, tmp_path, own_model):
    from safetensors.numpy import load_file, save_file

    bag = make_bag(frames=2)
    made = {"model": str(own_model), "presets": ("fastest",)}
    replay(options(bag, tmp_path / "out", **made))
    head = own_model / "drafters" / "vision" / "model.safetensors"
    save_file({name: -values for name, values in load_file(head).items()}, head)
    with pytest.raises(ReplayError, match=r"heads_digest\.vision: "):
        replay(options(bag, tmp_path / "out", **made))
    (own_model / "drafters").rename(own_model / "none")
    config = own_model / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(ReplayError, match=r"model_digest: "):
        replay(options(bag, tmp_path / "out", **made, draft_heads=str(own_model / "none")))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (["--centre-crop"], "another centre_crop: True, the golden file was made with False (--centre-crop)"),
        (
            ["--image-resize", "evaluation"],
            "another image_resize: 'evaluation', the golden file was made with 'processor'",
        ),
        (["--instruction", "touch it"], "another instruction: 'touch it', the golden file was made with ''"),
        (["--period", "0.5"], "another period: 0.5, the golden file was made with 0.0 (--period)"),
        (None, "another bag: other, the golden file is of bag with other content"),
    ],
)
def test_what_cannot_be_compared_is_named_before_anything_is_decoded(
    make_bag, own_model, monkeypatch, capsys, change, line
):
    from spec_vla_ros.policy import OpenVLAPolicy

    bag = make_bag(frames=2)
    assert main(command(bag, own_model, "--presets", "autoregressive", "--save-golden", "golden.json")) == 0
    capsys.readouterr()
    monkeypatch.setattr(OpenVLAPolicy, "infer", lambda *_: pytest.fail("it was asked for an action"))
    other = bag if change else make_bag(name="other", frames=3)
    assert main(command(other, own_model, "--check-golden", "golden.json", *(change or []))) == 2
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(("resize", "status"), [("processor", 0), ("lanczos", 2)])
def test_a_golden_file_of_before_was_made_by_the_processor_alone(make_bag, own_model, capsys, resize, status):
    """It does not say how its pictures were made: there was one way."""
    words = command(make_bag(frames=2), own_model, "--image-resize", resize)
    assert main([*words, "--presets", "autoregressive", "--save-golden", "golden.json"]) == 0
    content = golden.load("golden.json")
    assert content["made_of"].pop("image_resize") == resize
    golden.save("golden.json", content)
    capsys.readouterr()
    assert main([*words, "--check-golden", "golden.json"]) == status
    refused = f"another image_resize: {resize!r}, the golden file was made with 'processor' (--image-resize)"
    assert (refused in capsys.readouterr().out) == (status == 2)


def test_a_golden_file_keeps_how_it_was_decoded(make_bag, tmp_path):
    bag, path = make_bag(frames=2), tmp_path / "golden.json"
    decoding = {
        "acceptance_sum": 12,
        "second_look": 0.2,
        "acceptance_mm": 1.0,
        "acceptance_mrad": 3.0,
        "draft_depth": 4,
    }
    result = replay(options(bag, tmp_path / "out", presets=("fastest",), **decoding))
    golden.save(path, golden.golden(result.header, result.rows(), "fastest"))
    assert golden.options(golden.load(path)).items() >= decoding.items()
    golden.check(bag, path, period=0.0, cpu_threads=1, mm=0.0, mrad=0.0)
    radii = next(iter(result.rows()))["presets"]["fastest"]["radius"]
    assert radii != [9] * 6 + [0], "the radius in mm and mrad was in force"


def test_a_golden_file_of_before_is_read_unless_its_bounds_meant_something_else(tmp_path):
    """It has a gripper_radius, which had no effect; but its mm and mrad replaced the bins."""
    content = {"format": golden.FORMAT, "preset": "fastest", "settings": Settings(()).__dict__ | {"gripper_radius": 3}}
    del content["settings"]["presets"]
    golden.save(tmp_path / "old.json", content)
    made = golden.options(golden.load(tmp_path / "old.json"))
    assert Options(bag=tmp_path, **made).of("fastest") == Settings().of("fastest")
    for unit in ("mm", "mrad"):
        settings = content["settings"] | {f"acceptance_{unit}": 2.0}
        golden.save(tmp_path / "old.json", content | {"settings": settings})
        with pytest.raises(ReplayError, match=r"replaced acceptance_radius.*save it anew"):
            golden.load(tmp_path / "old.json")
        golden.save(tmp_path / "new.json", content | {"settings": Settings(()).__dict__ | {f"acceptance_{unit}": 2.0}})
        assert golden.load(tmp_path / "new.json")


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}'])
def test_what_is_no_golden_file_of_this_version_is_said(make_bag, tmp_path, capsys, text):
    path = tmp_path / "golden.json"
    path.write_text(text)
    assert main(["replay", str(tmp_path), "--check-golden", str(path)]) == 1
    assert "golden.json" in capsys.readouterr().err


def test_what_a_golden_file_finds():
    def content(*actions):
        return {"actions": [{"stamp_ns": i, "values": v, "error": e} for i, (v, e) in enumerate(actions)]}

    still = [0.0] * 6 + [1.0]
    tolerance = golden.Tolerance(mm=1.0, mrad=1.0, gripper=0.5)
    assert golden.differences(content((still, None)), content((still, None)), tolerance) == []
    turned = [0, 0, 0, 0, 0, 0.002, 1.0]
    assert "yaw" in golden.differences(content((still, None)), content((turned, None)), tolerance)[0]
    assert golden.differences(content((still, None)), content(([float("nan"), *still[1:]], None)), tolerance)
    closed = [0.0] * 7
    assert (
        golden.differences(content((still, None), (still, None)), content((still, None), (closed, None)), tolerance)
        == []
    )
    assert golden.differences(content((still, None)), content((closed, None)), tolerance)
    assert "NON_FINITE" in golden.differences(content((still, None)), content((None, "NON_FINITE: x")), tolerance)[0]
    assert golden.differences(content((still, None)), content(), tolerance)


# -- the command line


def test_the_command_line(make_bag, tmp_path, capsys):
    bag, out, path = make_bag(frames=4), tmp_path / "out", tmp_path / "golden.json"
    words = [
        "replay",
        str(bag),
        "--model",
        str(MODEL),
        "--period",
        "0",
        "--presets",
        "autoregressive",
        "fastest",
        "--cpu-threads",
        "1",
    ]
    assert main([*words, "--out", str(out), "--save-golden", str(path)]) == 0
    said = capsys.readouterr().out
    assert "compared with autoregressive over 4 images" in said
    assert "of 4 actions, beyond what the radius allows of autoregressive: fastest" in said
    assert main([*words, "--out", str(tmp_path / "again"), "--check-golden", str(path)]) == 0
    content = golden.load(path)
    content["actions"][0]["values"][2] += 0.05
    golden.save(path, content)
    assert main([*words, "--out", str(tmp_path / "third"), "--check-golden", str(path)]) == 2
    assert "1 differences" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bag": "nowhere"}, "there is no"),
        ({"--image-topic": "/other"}, "/camera/image_raw"),
        ({"--model": "nowhere"}, "CHECKPOINT_INVALID"),
        ({"--unnorm-key": "kuka"}, "tabletop"),
    ],
)
def test_what_is_not_possible_is_one_line_and_status_1(make_bag, tmp_path, capsys, change, text):
    bag = change.pop("bag", None) or str(make_bag(frames=2))
    given = {"--model": str(MODEL), "--out": str(tmp_path / "out"), **change}
    assert main(["replay", bag, *(word for pair in given.items() for word in pair)]) == 1
    said = capsys.readouterr().err
    assert text in said
    assert len(said.strip().splitlines()) == 1


def test_commands_of_other_options_do_not_meet_in_one_folder_and_the_same_one_goes_on(make_bag, tmp_path, monkeypatch):
    """Outside the checkout, with the model that comes with the package and without --out."""
    bag = make_bag(frames=2)
    monkeypatch.chdir(tmp_path)
    words = ["replay", str(bag), "--period", "0", "--cpu-threads", "1", "--presets", "fastest"]
    for more in ([], ["--acceptance-radius", "3"], ["--centre-crop"], []):
        assert main([*words, *more]) == 0
    folders = sorted((tmp_path / "out" / "replay").iterdir())
    assert len(folders) == 3
    assert all(folder.name.startswith("bag-") for folder in folders)
    continued = [json.loads((f / "summary.json").read_text())["counts"]["continued_from_row"] for f in folders]
    assert sorted(continued) == [0, 0, 2]


def test_one_of_several_topics_of_actions_has_to_be_named(make_bag, tmp_path, capsys):
    from test_frames import action

    both = [action(START + 1000 + PERIOD, 0.01, True, f"/{side}/action") for side in ("left", "right")]
    bag = make_bag(frames=3, extra=both)
    words = command(bag, MODEL, "--presets", "fastest")
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    said = capsys.readouterr().out
    assert "compared with none of /left/action, /right/action; --command-topic names one" in said
    assert "from what was recorded then" not in said
    assert main([*words, "--out", str(tmp_path / "two"), "--command-topic", "/right/action"]) == 0
    assert "from what was recorded then, mean over 1 images" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["rosbags", "mcap", "torch"])
def test_a_missing_library_is_one_line_with_what_to_install(make_bag, tmp_path, missing):
    """Before the first image is read: a run of hours used to end with it, at the report."""
    code = (
        f"import sys; sys.modules['{missing}'] = None\n"
        "from spec_vla_ros.cli import main\n"
        f"sys.exit(main(['replay', {str(make_bag(frames=1))!r}, '--out', {str(tmp_path / 'out')!r}]))"
    )
    done = processes.run("-c", code)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().endswith("It needs: pip install 'spec_vla_ros[model,replay]'")
    assert "Traceback" not in done.stderr


def test_results_are_not_mixed_with_the_recording(make_bag):
    bag = make_bag()
    before = sorted(bag.iterdir())
    for given in (bag, *bag.glob("*.mcap")):
        with pytest.raises(ReplayError, match="is where the recording is"):
            replay(options(given, bag))
    assert sorted(bag.iterdir()) == before


def test_pictures_that_show_nothing_are_said_before_anybody_believes_a_verdict(make_bag, scenes, tmp_path, monkeypatch):
    """An inspection called it an error, and a replay judged decoders by a lens cap."""
    monkeypatch.setattr(
        "spec_vla_ros.recordings.frames.rgb_from_image", lambda message: np.zeros((64, 64, 3), np.uint8)
    )
    lines = []
    result = replay(options(make_bag(frames=3), tmp_path / "out", presets=("autoregressive",)), lines.append)
    assert any("3 of 3 images are black or of one colour" in line for line in lines)
    assert result.counts["images_that_show_nothing"] == 3
    assert "3 images are black or of one colour: the camera saw nothing" in (result.files["report.html"]).read_text()
