"""Streams of recorded actions: every kind of file, and one line with file and row for each that cannot be used."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mcap")
pytest.importorskip("rosbags")

from lerobot_writer import pictures, write_lerobot
from stream_writers import delta_actions, ids, npz, said_only

from spec_vla_ros.bench.decoding.stream_files import read_stream
from spec_vla_ros.bench.decoding.stream_tokens import StreamError, at_rate, encoded, read_statistics
from spec_vla_ros.errors import CommandError
from spec_vla_ros.openvla.action_tokens import ActionTokens

TOKENS = ActionTokens()
ROWS = [[10, 20, 254], [11, 20, 254], [30, 40, 0], [31, 41, 0], [90, 90, 0]]
ACTIONS = np.linspace(-0.4, 0.8, 15).reshape(5, 3)


def stream(path, statistics=None, rate=None, topic=""):
    return encoded(read_stream(Path(path), topic), statistics, rate)


def text(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def lines_of(rows):
    return [",".join(map(str, row)) for row in rows]


def refused(path, *naming, **more):
    with pytest.raises(CommandError) as caught:
        stream(path, **more)
    said = str(caught.value)
    assert "\n" not in said
    for words in (str(path), *naming):
        assert words in said
    return said


# -- NumPy


@pytest.mark.parametrize(
    "arrays", [{"tokens": ids(*ROWS)}, {"tokens": np.array(ROWS)}, {"bins": np.array(ROWS, float)}]
)
def test_ids_and_bins_are_told_apart(tmp_path, arrays):
    found = stream(npz(tmp_path / "a.npz", lengths=[2, 3], rate_hz=5.0, **arrays))
    assert [episode.tolist() for episode in found.episodes] == [ids(*ROWS[:2]).tolist(), ids(*ROWS[2:]).tolist()]
    assert found.rate_hz == 5


def test_the_lowest_id_stays_what_it_is(tmp_path):
    """Two ids share the topmost bin, and a verifier is asked about ids."""
    found = stream(npz(tmp_path / "a.npz", tokens=np.array([[31744, 31745]])))
    assert found.episodes[0].tolist() == [[31744, 31745]]
    assert stream(npz(tmp_path / "b.npz", bins=np.array([[255, 254]]))).episodes[0].tolist() == [[31744, 31745]]


def test_without_lengths_and_rate_it_is_one_episode_at_no_known_rate(tmp_path):
    found = stream(npz(tmp_path / "a.npz", tokens=ids(*ROWS)))
    assert len(found.episodes) == 1
    assert found.rate_hz is None
    assert "one episode" in found.words()
    assert stream(npz(tmp_path / "a.npz", tokens=ids(*ROWS)), rate=5.0).rate_hz == 5


def test_a_rate_in_the_file_counts_and_that_is_said(tmp_path):
    found = stream(npz(tmp_path / "a.npz", tokens=ids(*ROWS), rate_hz=20), rate=5.0)
    assert found.rate_hz == 20
    assert "20 Hz itself" in found.words()


BAD_ARRAYS = {
    "nothing of the names": ({"x": np.zeros((2, 3))}, ["expected one of tokens, bins, actions"]),
    "flat": ({"tokens": np.array([31999, 31998])}, ["shape (2,)"]),
    "too wide": ({"actions": np.zeros((4, 14))}, ["1 to 9", "(4, 14)"]),
    "empty": ({"tokens": np.zeros((0, 7), int)}, ["no actions"]),
    "texts": ({"tokens": np.array([["a", "b"]])}, ["expected numbers"]),
    "not finite": ({"actions": np.array([[0.1, 0.2], [0.3, np.nan]])}, ["row 1", "nan", "dimension 1"]),
    "infinite": ({"actions": np.array([[0.1, -np.inf], [0.3, 0.1]])}, ["row 0", "inf"]),
    "id beyond": ({"tokens": np.array([[31999, 31900], [31999, 32000]])}, ["row 1", "32000", "31744..31999"]),
    "id among bins": ({"tokens": np.array([[3, 4], [31999, 5]])}, ["row 1", "31999", "no bin (0..255)"]),
    "bin beyond": ({"bins": np.array([[3, 256]])}, ["row 0", "256", "0..255"]),
    "half an id": ({"tokens": np.array([[31990.5, 31999.0]])}, ["row 0", "31990.5"]),
    "lengths short": ({"tokens": ids(*ROWS), "lengths": [2, 2]}, ["add up to 4", "5 actions"]),
    "lengths zero": ({"tokens": ids(*ROWS), "lengths": [5, 0]}, ["lengths is [5, 0]"]),
    "lengths halves": ({"tokens": ids(*ROWS), "lengths": [2.5, 2.5]}, ["lengths is"]),
    "rate": ({"tokens": ids(*ROWS), "rate_hz": -5.0}, ["rate_hz is -5.0"]),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_array_that_cannot_be_is_said_with_its_row(tmp_path, case):
    arrays, naming = BAD_ARRAYS[case]
    refused(npz(tmp_path / "a.npz", **arrays), *naming)


def test_files_that_are_cut_off_or_no_files_are_said(tmp_path):
    path = npz(tmp_path / "a.npz", tokens=ids(*ROWS * 20))
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, "cut off")
    refused(npz(tmp_path / "o.npz", tokens=np.array([{}], dtype=object)), "cannot be read")
    refused(text(tmp_path / "p.npz", "version https://git-lfs.github.com/spec/v1", "oid sha256:0"), "git lfs pull")
    (tmp_path / "e.csv").write_text("")
    refused(tmp_path / "e.csv", "is empty")
    refused(tmp_path / "none.npz", "there is no")
    refused(text(tmp_path / "a.txt", "1"), "expected .npz")
    refused(text(tmp_path / "a.hdf5", "1"), "HDF5")


# -- text


def test_a_table_without_names_is_one_episode(tmp_path):
    found = stream(text(tmp_path / "a.csv", *lines_of(ids(*ROWS))))
    assert found.episodes[0].tolist() == ids(*ROWS).tolist()
    assert "no line of names" in found.words()


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_with_names_has_episodes_and_a_rate(tmp_path, mark):
    rows = ["frame,episode,timestamp,x,y,gripper"]
    rows += [f"{i},{'b' if i < 2 else 'a'},{0.1 * (i % 2)},{x},{y},{g}" for i, (x, y, g) in enumerate(ROWS)]
    found = stream(text(tmp_path / "a.csv", *(row.replace(",", mark) for row in rows)))
    assert [len(episode) for episode in found.episodes] == [2, 3]
    assert np.concatenate(found.episodes).tolist() == ids(*ROWS).tolist()
    assert found.rate_hz == pytest.approx(10)
    assert "columns x, y, gripper" in found.words()


def test_columns_that_say_what_they_are_leave_out_the_rest(tmp_path):
    rows = ["reward,action_0,action_1", "0.5,0.1,1", "0.25,0.2,0", "0,0,1"]
    found = read_stream(text(tmp_path / "a.csv", *rows))
    assert found.kind == "actions"
    assert found.values.tolist() == [[0.1, 1], [0.2, 0], [0, 1]]


def test_columns_that_are_only_counted_are_no_action(tmp_path):
    rows = lines_of([[i, *row] for i, row in enumerate(ids(*ROWS))])
    assert read_stream(text(tmp_path / "a.csv", ",0,1,2", *rows)).values.tolist() == ids(*ROWS).tolist()
    plain = text(tmp_path / "b.csv", "0,1,2", *lines_of(ACTIONS))
    assert read_stream(plain).values == pytest.approx(ACTIONS)


BAD_TABLES = {
    "short line": (["1,2,3", "4,5,6", "7,8"], ["line 3", "2 numbers", "cut off"]),
    "short line in the middle": (["1,2,3", "4,5", "7,8,9"], ["line 2", "equally wide"]),
    "short line under names": (["x,y", "0.5,0.25", "0.5"], ["line 3", "1 cells"]),
    "a word": (["0.5,0.25", "0.5,up"], ["line 2", "'up'"]),
    "a word at first": (["0.5,up", "0.5,0.25"], ["line 1", "'up'"]),
    "nan": (["x,y", "0.5,0.25", "", "nan,0.5"], ["line 4", "nan", "dimension 0"]),
    "an id beyond": (["31999,31990", "31998,32001"], ["line 2", "32001"]),
    "half an id": (["31999,31990", "31998,31990.5"], ["line 2", "31990.5"]),
    "whole numbers below 0": (["1,2", "3,-4"], ["line 2", "-4", "has to be called actions"]),
    "two kinds": (["token_0,bin_0", "31999,0"], ["columns of bin and token"]),
    "no action": (["episode,timestamp", "0,0.1"], ["none of which can be"]),
    "names alone": (["x,y"], ["no actions"]),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_table_that_cannot_be_is_said_with_its_line(tmp_path, case):
    lines, naming = BAD_TABLES[case]
    refused(text(tmp_path / "a.csv", *lines), *naming)


def test_lines_of_json_are_actions_or_whole_episodes(tmp_path):
    objects = [
        json.dumps({"episode": i // 2, "timestamp": 0.05 * i + 5 * (i // 2), "tokens": row})
        for i, row in enumerate(ids(*ROWS).tolist())
    ]
    found = stream(text(tmp_path / "a.jsonl", *objects))
    assert [len(episode) for episode in found.episodes] == [2, 2, 1]
    assert found.rate_hz == pytest.approx(20)
    bare = stream(text(tmp_path / "b.jsonl", *map(json.dumps, ids(*ROWS).tolist())))
    assert bare.episodes[0].tolist() == ids(*ROWS).tolist()
    whole = [json.dumps({"bins": ROWS[:2]}), json.dumps({"bins": ROWS[2:]})]
    assert [len(episode) for episode in stream(text(tmp_path / "c.jsonl", *whole)).episodes] == [2, 3]
    action = read_stream(text(tmp_path / "d.jsonl", '{"action": [0, 1]}', '{"action": [1, 2]}'))
    assert action.kind == "actions"


def test_times_that_are_no_seconds_give_no_rate(tmp_path):
    objects = [json.dumps({"time": 10**7 * i, "bins": row}) for i, row in enumerate(ROWS)]
    found = stream(text(tmp_path / "a.jsonl", *objects))
    assert found.rate_hz is None
    assert "no seconds" in found.words()


BAD_LINES = {
    "cut": (["[1, 2]", "[3, "], ["line 2", "cut off"]),
    "no action": (["[1, 2]", '{"reward": 1}'], ["line 2", "'reward'", "expected tokens"]),
    "a word": (['{"tokens": "up"}'], ["line 1", "list of numbers"]),
    "true": (['{"tokens": [31999, true]}'], ["line 1", "list of numbers"]),
    "two names": (['{"tokens": [31999]}', '{"bins": [3]}'], ["mixes bin and token"]),
    "widths": (["[1, 2]", "[1, 2, 3]", "[1, 2]"], ["line 2 has 3 numbers", "line 1 has 2"]),
    "not finite": (['{"action": [1, NaN]}'], ["line 1", "nan"]),
    "endless": (['{"action": [1, 1' + "0" * 400 + "]}"], ["hundreds of digits"]),
    "nothing": (["", ""], ["no actions"]),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_lines_of_json_that_cannot_be_are_said_with_their_number(tmp_path, case):
    lines, naming = BAD_LINES[case]
    refused(text(tmp_path / "a.jsonl", *lines), *naming)


# -- recordings and data sets


def seven(*bins):
    return [*bins, *[127] * (6 - len(bins)), 254]


def test_a_recording_of_the_node_is_cut_where_it_begins_anew(tmp_path):
    rows = [
        (0.0, "wave", seven(1)), (0.2, "wave", seven(2)),
        (0.4, "stop", seven(3)),
        (5.0, "stop", seven(4)), (5.2, "stop", seven(5)),
        (5.4, "stop", seven(6), 1),
    ]  # fmt: skip
    found = stream(delta_actions(tmp_path / "bag", rows))
    assert [len(episode) for episode in found.episodes] == [2, 1, 2, 1]
    assert np.concatenate(found.episodes)[:, 0].tolist() == [31999 - i for i in range(1, 7)]
    assert found.rate_hz == pytest.approx(5)
    assert "recorded as ids" in found.words()


@pytest.mark.parametrize(
    ("more", "kind"), [({"with_tokens": False}, "bins"), ({"with_tokens": False, "with_bins": False}, "actions")]
)
def test_a_recording_without_tokens_has_bins_or_motions(tmp_path, more, kind):
    rows = [(0.2 * i, "wave", seven(10 * i)) for i in range(8)]
    recorded = read_stream(delta_actions(tmp_path / "bag", rows, **more))
    assert recorded.kind == kind
    assert recorded.values.shape == (8, 7)
    assert "this recording itself" in encoded(recorded).encoding or kind == "bins"


def test_recordings_that_cannot_be_used_are_said(tmp_path):
    refused(said_only(tmp_path / "words"), "holds no DeltaAction", "/instruction")
    rows = [(0.0, "wave", seven(1)), (0.2, "wave", seven(2))]
    two = delta_actions(tmp_path / "two", rows, topics=2)
    refused(two, "--action-topic", "/act/action, /other_1/action")
    assert stream(two, topic="/other_1/action").episodes[0].shape == (2, 7)
    refused(two, "/none is no topic", topic="/none")
    widths = delta_actions(tmp_path / "widths", [*rows, (0.4, "wave", [1, 2, 254]), (0.6, "wave", seven(1))])
    refused(widths, "action 2 has 3 numbers", "action 0 has 7")
    foreign = delta_actions(tmp_path / "ids", [(0.0, "wave", [300] * 7)])
    refused(foreign, "action 0", "31699", "31744..31999")
    half = delta_actions(tmp_path / "half", [*rows, (0.4, "wave", [])])
    refused(half, "action 2 has no tokens")


def test_a_recording_that_was_cut_off_is_used_as_far_as_it_goes_and_says_so(tmp_path):
    """There is no index any more, and the last message may be half of one."""
    path = delta_actions(tmp_path / "bag", [(0.2 * i, "wave " * 300, seven(i % 200)) for i in range(1500)])
    (file,) = path.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 8 // 10])
    found = stream(path)
    assert 0 < sum(map(len, found.episodes)) < 1500
    assert "messages were read" in found.words()


def test_a_data_set_is_cut_where_frames_are_missing_and_says_its_rate(tmp_path):
    actions = np.linspace(-1, 1, 8 * 7).reshape(8, 7)
    path = write_lerobot(
        tmp_path / "set", [("wave", pictures(5)[0]), ("stop", pictures(3)[0])], video=False, actions=actions
    )
    found = stream(path)
    assert [len(episode) for episode in found.episodes] == [5, 3]
    assert found.rate_hz == pytest.approx(10)
    from pyarrow import parquet

    first, *_ = sorted((path / "data").rglob("*.parquet"))
    rows = parquet.read_table(first)
    parquet.write_table(rows.take([0, 1, 3, 4]), first)
    assert [len(episode) for episode in stream(path).episodes] == [2, 2, 3]
    assert "this data set itself" in found.encoding


def test_data_sets_that_cannot_be_used_are_said(tmp_path):
    episodes = [("wave", pictures(3)[0])]
    actions = np.zeros((3, 7))
    actions[1, 2] = np.nan
    refused(write_lerobot(tmp_path / "nan", episodes, video=False, actions=actions), "row 1", "dimension 2")
    wide = write_lerobot(tmp_path / "wide", episodes, video=False, actions=np.zeros((3, 14)))
    refused(wide, "(3, 14)", "one arm")
    ragged = write_lerobot(tmp_path / "ragged", episodes, video=False, actions=[[0.0] * 6, [0.0] * 8, [0.0] * 7])
    with pytest.raises(CommandError, match="equally many numbers"):
        stream(ragged)
    (table,) = (tmp_path / "nan" / "data").rglob("*.parquet")
    text(table, "version https://git-lfs.github.com/spec/v1", "oid sha256:0")
    with pytest.raises(CommandError, match="git lfs pull"):
        stream(tmp_path / "nan")


# -- statistics


def test_actions_are_encoded_with_the_statistics_given_or_their_own(tmp_path):
    path = npz(tmp_path / "a.npz", actions=np.array([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    about = {"action": {"q01": [-2.0, 0.0], "q99": [2.0, 1.0], "mask": [True, False]}}
    text(tmp_path / "dataset_statistics.json", json.dumps({"a": about, "b": about}))
    found = stream(path, read_statistics(f"{tmp_path}/dataset_statistics.json:b"))
    bins = TOKENS.to_bins(found.episodes[0])
    assert bins.tolist() == TOKENS.to_bins(TOKENS.encode([[-0.5, 0.0], [0.0, 1.0], [0.5, 0.0]])).tolist()
    assert "'b'" in found.encoding
    own = stream(path)
    assert TOKENS.to_bins(own.episodes[0])[:, 0].tolist() == [0, 127, 254]
    assert "1st and 99th percentile of this file itself" in own.encoding


def test_statistics_that_do_not_fit_are_said(tmp_path):
    path = npz(tmp_path / "a.npz", actions=np.array([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    about = {"q01": [-0.1, 0.0], "q99": [0.1, 1.0]}
    file = text(tmp_path / "config.json", json.dumps({"norm_stats": {"narrow": {"action": about}}}))
    assert "do they fit" in stream(path, read_statistics(str(file))).words()
    assert "no effect" in stream(npz(tmp_path / "t.npz", tokens=ids(*ROWS)), read_statistics(str(tmp_path))).words()
    with pytest.raises(StreamError, match=r"have 3 numbers.*have 2"):
        stream(npz(tmp_path / "b.npz", actions=ACTIONS), read_statistics(f"{file}:narrow"))
    for given, words in ((f"{file}:wide", "has: narrow"), (str(tmp_path / "none.json"), "none.json")):
        with pytest.raises(StreamError, match=words):
            read_statistics(given)


# -- rates


def at(hz, *, rate=20.0, lengths=None, **arrays):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        more = {} if lengths is None else {"lengths": lengths}
        return at_rate(stream(npz(Path(folder) / "a.npz", **arrays, **more), rate=rate), hz)


def test_at_a_lower_rate_motions_add_up_and_the_gripper_is_the_last_one():
    walk = np.array([[0.1 * (i % 5), 1.0 if i % 4 in (1, 2) else 0.0] for i in range(40)])
    found = at(10.0, actions=walk)
    assert found.rate_hz == 10
    assert found.recorded_rate_hz == 20
    assert len(found.episodes[0]) == 20
    sums = walk[:, 0].reshape(20, 2).sum(1)
    order = TOKENS.to_bins(found.episodes[0])[:, 0]
    assert np.corrcoef(sums, order)[0, 1] > 0.999
    assert (order.min(), order.max()) == (0, 254), "the range is filled as it was, not cut off"
    assert set(TOKENS.to_bins(found.episodes[0])[:, 1].tolist()) == {127, 254}
    assert TOKENS.to_bins(found.episodes[0])[:, 1].tolist() == [254, 127] * 10


def test_a_stream_that_goes_half_as_far_goes_half_as_far_at_any_rate():
    """A sum that is spread over the whole range again would make every stream equally lively."""
    quiet = at(10.0, bins=np.array([[100 + 10 * (i // 2 % 4), 0] for i in range(40)]))
    bins = TOKENS.to_bins(quiet.episodes[0])[:, 0]
    assert (bins.min(), bins.max()) == (100, 130)


def test_what_is_left_of_an_episode_is_dropped_and_short_ones_are_counted():
    found = at(5.0, lengths=[9, 3, 4], bins=np.array([[i * 10, 0] for i in range(16)]))
    assert [len(episode) for episode in found.episodes] == [2, 1]
    assert "1 episodes are shorter" in found.words()


def test_its_own_rate_is_the_stream_itself():
    assert at(20.0, tokens=ids(*ROWS)).episodes[0].tolist() == ids(*ROWS).tolist()


@pytest.mark.parametrize(
    ("hz", "rate", "words"),
    [
        (15.0, 20.0, "20, 10, 6.667"),
        (40.0, 20.0, "no whole fraction"),
        (5.0, None, "--rate"),
        (1.0, 20.0, "no episode"),
    ],
)
def test_rates_that_cannot_be_made_are_said(hz, rate, words):
    with pytest.raises(StreamError, match=words):
        at(hz, rate=rate, tokens=ids(*ROWS))
