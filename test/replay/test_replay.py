"""A recording through the real policy: equal twice, to be continued, compared, gated."""

import json

import numpy as np
import pytest

pytest.importorskip("mcap")
pytest.importorskip("torch")

from recordings import MODEL

from spec_vla_ros.replay import golden
from spec_vla_ros.replay.bag import Bag
from spec_vla_ros.replay.cli import main
from spec_vla_ros.replay.run import ReplayError
from spec_vla_ros.replay.session import Options, replay

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


@pytest.mark.parametrize("cut", [0.3, 0.55, 0.8])
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_never_stopped(make_bag, tmp_path, cut):
    bag = make_bag()
    whole = replay(options(bag, tmp_path / "whole"))
    (tmp_path / "stopped").mkdir()
    data = whole.path.read_bytes()
    (tmp_path / "stopped" / "actions.jsonl").write_bytes(data[: int(cut * len(data))])  # in the middle of a row
    again = replay(options(bag, tmp_path / "stopped"))
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
    assert page.count("data:image/png;base64,") == 3
    assert page.count("data:image/jpeg;base64,") == sum(bool(bins) for _, _, bins in summary["worst"])
    assert "http" not in page.replace("http-equiv", ""), "it opens without a network"
    assert "fastest" in page


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


def test_what_a_golden_file_finds():
    def content(*actions):
        return {"format": 1, "actions": [{"stamp_ns": i, "values": v, "error": e} for i, (v, e) in enumerate(actions)]}

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
