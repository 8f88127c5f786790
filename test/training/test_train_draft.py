"""Heads distilled from a verifier: its own answers are the labels, and no interruption changes what comes out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from draft_recordings import pictures, write_bag
from lerobot_writer import write_lerobot

from spec_vla_ros.decoding.drafters import Observation
from spec_vla_ros.decoding.drafters.base import DraftContext
from spec_vla_ros.decoding.heads.store import trained_drafters
from spec_vla_ros.decoding.heads.vision_head import NO_ACTION
from spec_vla_ros.installed import share_path
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.training import draft_data, draft_sources, train_draft
from spec_vla_ros.training.draft_loop import Loop, LoopError, LoopSettings, scheduled
from spec_vla_ros.training.draft_parallel import Processes
from spec_vla_ros.training.draft_shards import Samples, Shard, ShardsError

MODEL = share_path("models/tabletop")
TASKS = ("pick up the red block", "touch the blue block", "put the green block on the plate")
LENGTHS = (9, 7, 8)
MODULE = "spec_vla_ros.training.train_draft"
# A training of seconds: the numbers say nothing, that they come is what counts.
QUICK = ["--period", "0", "--batch", "4", "--width", "32", "--eval-every", "100", "--eval-actions", "3"]
QUICK += ["--report-actions", "4", "--checkpoint-every", "4", "--shard-frames", "5", "--held-out", "0.3"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(train_draft, "keep_freed_memory", lambda: None)  # of this process


@pytest.fixture(scope="module")
def loaded():
    torch.set_num_threads(1)
    return load_model(MODEL, device="cpu")


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return write_bag(tmp_path_factory.mktemp("data") / "bag", list(zip(TASKS, pictures(*LENGTHS), strict=True)))


def train(*options, data=(), work=None, out=None):
    command = ["train-draft", "--model", str(MODEL), *map(str, QUICK), *map(str, options)]
    command += ["--data", *map(str, data)] if data else []
    command += ["--work", str(work), "--out", str(out or work / "out")]
    assert train_draft.main(command) == 0


def start(*options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *map(str, options)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_when(process, condition):
    """SIGKILL as soon as ``condition`` holds, which has to be before the process ends by itself."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def content(folder):
    """Every file below, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def labelled(bag, tmp_path_factory):
    """Work folder with all shards of the bag."""
    work = tmp_path_factory.mktemp("labelled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_draft, "keep_freed_memory", lambda: None)
        train("--shards-only", data=[bag], work=work)
    return work


# -- labels


def test_labels_are_what_the_policy_itself_would_do(loaded):
    """Batched decoding pads shorter prompts; padding must not change a token."""
    greedy, policy = draft_data.BatchedGreedy(loaded), OpenVLAPolicy(loaded)
    images = list(np.random.default_rng(0).integers(0, 256, (len(TASKS), 224, 224, 3), dtype=np.uint8))
    prompts = [loaded.prompt.ids(task) for task in TASKS]
    assert len({len(prompt) for prompt in prompts}) > 1
    tokens = greedy.tokens(greedy.patches(images), prompts)
    settings = DecodeSettings(preset="autoregressive")
    for image, task, row in zip(images, TASKS, tokens, strict=True):
        np.testing.assert_array_equal(policy.infer(image, task, settings).tokens, row)


def test_each_frame_knows_the_answer_before_it_within_its_episode(loaded, labelled):
    shards = [Shard.load(folder) for folder in sorted((labelled / "shards").iterdir())]
    assert [len(shard.number) for shard in shards] == [5, 5, 5, 5, 4], "of 24 frames"
    joined = {name: np.concatenate([getattr(s, name)[s.driven] for s in shards]) for name in ("tokens", "last")}
    bins, last = loaded.tokens.to_bins(joined["tokens"]), joined["last"]
    episode = np.repeat(range(len(LENGTHS)), LENGTHS)
    np.testing.assert_array_equal(np.concatenate([s.episode for s in shards]), episode)
    for n in range(sum(LENGTHS)):
        begins = n == 0 or episode[n] != episode[n - 1]
        np.testing.assert_array_equal(last[n], np.full(7, NO_ACTION) if begins else bins[n - 1], err_msg=str(n))
    tasks = np.concatenate([s.task for s in shards]).reshape(-1, 3)
    assert (np.sort(tasks) == [0, 1, 2]).all(), "each frame was answered for all instructions"
    np.testing.assert_array_equal(tasks[:, 0], episode)


def test_killed_in_the_middle_of_labelling_the_shards_become_the_same(bag, labelled, tmp_path):
    command = [MODULE, "--model", MODEL, *QUICK, "--data", bag, "--work", tmp_path, "--shards-only"]
    kill_when(start(*command), (tmp_path / "shards" / "shard_00_000001").exists)
    assert len(list((tmp_path / "shards").glob("shard_??_??????"))) < 5
    assert json.loads((tmp_path / "manifest.json").read_text())["complete"] == {}
    (tmp_path / "shards" / "shard_00_000003.partial-1").mkdir(exist_ok=True)
    train("--shards-only", data=[bag], work=tmp_path)
    assert content(tmp_path) == content(labelled)


def test_several_sources_make_one_set(tmp_path, loaded):
    data = write_lerobot(tmp_path / "data", list(zip(TASKS[:2], pictures(4, 3), strict=True)))
    bag = write_bag(tmp_path / "bag", [(TASKS[2], pictures(3)[0])])
    train("--shards-only", data=[data, bag], work=tmp_path / "work")
    manifest = json.loads((tmp_path / "work/manifest.json").read_text())
    assert manifest["instructions"] == list(TASKS)
    assert manifest["complete"]["frames"] == 10
    folders = sorted((tmp_path / "work/shards").iterdir())
    samples = Samples(folders, loaded, manifest["instructions"], 48)
    assert len(samples.episode.unique()) == 3
    learnt, held = samples.split(0.1, 0)
    assert not set(samples.episode[learnt].tolist()) & set(samples.episode[held].tolist())
    assert len(learnt) + len(held) == len(samples) == 30


# -- training


def test_a_bag_becomes_a_head_that_loads_and_drafts(bag, labelled, loaded, tmp_path, capsys):
    train("--kind", "vision", "eagle", "--steps", "12", data=[bag], work=labelled, out=tmp_path)
    found, problems = trained_drafters(loaded, tmp_path)
    assert (sorted(found), problems) == (["eagle", "vision"], [])
    patches = torch.zeros(1, loaded.config.towers[0].patches, loaded.config.llama.hidden_size)
    text = loaded.model.language_model.embed(torch.tensor([loaded.prompt.ids(TASKS[0])]))
    found["vision"].begin(Observation(patches, text, torch.cat([patches, text], dim=1)))
    branches = found["vision"].propose(DraftContext(0, 6, 8, [9] * 6 + [0], loaded.tokens))
    assert len(branches) == 8
    assert {len(branch) for branch in branches} == {6}
    report = json.loads((tmp_path / "vision/report.json").read_text())
    assert report["held_out"]["actions"] + report["held_out"]["refused_by_the_model"] == 4
    assert 1 <= report["held_out"]["passes_per_action"] <= 13
    assert report["expected"]["speed_up"] > 0
    assert all(value > 0 for value in report["measured_stages"].values())
    assert report["training"]["frames"] == 24
    said = capsys.readouterr().out
    assert "passes per action" in said
    assert "expected from that" in said
    before = content(tmp_path)["vision/model.safetensors"]
    train("--kind", "vision", "--steps", "12", work=labelled, out=tmp_path)  # shards alone are enough; nothing is left
    assert content(tmp_path)["vision/model.safetensors"] == before
    assert "goes on at step 12 of 12" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["vision", "eagle"])
def test_killed_in_the_middle_of_training_the_head_becomes_the_same(labelled, tmp_path, kind):
    steps = 32 if kind == "eagle" else 60
    options = ["--kind", kind, "--steps", str(steps), "--eval-every", "20"]
    results = []
    for name in ("whole", "killed"):
        work = tmp_path / name
        work.mkdir()
        for part in ("shards", "manifest.json"):
            (work / part).symlink_to(labelled / part)
        checkpoint = work / kind / "checkpoint.pt"
        if name == "killed":
            kill_when(start(MODULE, "--model", MODEL, *QUICK, "--work", work, *options), checkpoint.exists)
            state = torch.load(checkpoint, weights_only=True)["state"]
            assert 0 < state["step"] < steps
        train(*options, work=work)
        results.append(content(work / "out" / kind))
    assert results[0]["model.safetensors"] == results[1]["model.safetensors"]
    assert results[0]["config.json"] == results[1]["config.json"]


def test_two_processes_train_one_head(bag, loaded, tmp_path):
    process = start(
        "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", MODULE, "--model", MODEL, *QUICK,
        "--data", bag, "--kind", "vision", "--steps", 8, "--work", tmp_path, "--out", tmp_path / "out",
        "--device", "cpu",
    )  # fmt: skip
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert said.count("step 8 of 8") == 1, "only one of them talks"
    report = json.loads((tmp_path / "out/vision/report.json").read_text())
    assert (report["training"]["processes"], report["training"]["batch"]) == (2, 8)
    assert report["held_out"]["actions"] + report["held_out"]["refused_by_the_model"] == 4
    assert list(trained_drafters(loaded, tmp_path / "out")[0]) == ["vision"]


def test_labels_do_not_depend_on_who_made_them(bag, labelled, loaded, tmp_path):
    """Every process makes the shards that are its, in whatever order they come."""
    for rank in (1, 0):
        options = train_draft.SourceOptions(0.0)
        source = draft_sources.open_source(str(bag), options, loaded)
        settings = draft_data.LabelSettings(5, 2, 0)
        draft_data.Labeller(loaded, TASKS, settings, tmp_path, lambda text: None, rank, 2).run([source])
    assert content(tmp_path / "shards") == content(labelled / "shards")


class _Line:
    """A recipe whose only weight goes to 1."""

    name, peak_rate, warm_up, clip = "line", 0.1, 1, 1.0

    def make(self):
        return torch.nn.Linear(1, 1, bias=False)

    def optimizer(self, head):
        return torch.optim.SGD(head.parameters())

    def decay(self, progress):
        return 1.0

    def loss(self, forward, rows, generator):
        return (forward(torch.ones(1, 1)) - 1).square().mean()


def line(folder, passes, log=lambda text: None, **changes):
    """A loop that is told these passes, one per evaluation."""
    values = {"steps": 100, "minutes": 0.0, "batch": 2, "eval_every": 10, "checkpoint_every": 5, "patience": 2}
    values |= {"precision": "float32", "compiled": False, "seed": 0}
    told, weights = iter(passes), []

    def evaluate(head):
        weights.append(head.weight.item())
        return next(told), "so many"

    settings = LoopSettings(**{**values, **changes})
    group = Processes(0, 1, torch.device("cpu"))
    loop = Loop(_Line(), torch.arange(6), settings, group, folder, {"data": "x"}, evaluate, log)
    return loop, weights


def test_it_stops_where_nothing_gets_better_and_keeps_the_best(tmp_path):
    said = []
    loop, weights = line(tmp_path, [3.0, 2.0, 2.0, 2.5], said.append)
    head = loop.run()
    assert (loop.state.step, loop.state.best_step, loop.state.done) == (40, 20, True)
    assert head.weight.item() == weights[1]
    assert "no better head in 2 evaluations" in said[-1]
    again, _ = line(tmp_path, [])
    assert again.run().weight.item() == weights[1], "it has ended, and knows how"


def test_without_patience_it_goes_to_the_end(tmp_path):
    loop, _ = line(tmp_path, [3.0] * 10, patience=0)
    loop.run()
    assert (loop.state.step, loop.state.best_step) == (100, 10)


def test_minutes_become_steps_once_the_speed_is_known(tmp_path):
    loop, _ = line(tmp_path, iter(lambda: 2.0, None), steps=0, minutes=1e-4, patience=0, eval_every=10**9)
    loop.run()
    assert loop.state.step == loop.state.total >= 60


def test_every_answer_comes_once_before_any_comes_twice():
    rows = torch.tensor([3, 5, 8, 13, 21])
    drawn = torch.cat([scheduled(rows, first, 4, seed=1) for first in range(0, 20, 4)])
    for epoch in drawn.split(5):
        assert sorted(epoch.tolist()) == rows.tolist()
    assert drawn[:5].tolist() != drawn[5:10].tolist()


# -- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--period", "0.5"], r"another data: period 0\.0, now 0\.5"),
        (["--others", "1"], r"another settings: others 2, now 1"),
        (["--centre-crop"], r"another model: centre_crop False, now True"),
        (["--image-resize", "evaluation"], r"another model: image_resize 'processor', now 'evaluation'"),
    ],
)
def test_shards_of_something_else_are_not_mixed(bag, labelled, options, message):
    with pytest.raises(ShardsError, match=rf"the shards in .* are of {message}.*use another --work"):
        train(*options, data=[bag], work=labelled)


def test_shards_that_do_not_say_how_pictures_were_made_are_the_processors(bag, labelled, tmp_path):
    """The table top's model is one that learnt so; another one's shards would be named as the processor's."""
    work = shutil.copytree(labelled, tmp_path / "work")
    stored = json.loads((work / "manifest.json").read_text())
    assert stored["made_for"]["model"].pop("image_resize") == "processor"
    (work / "manifest.json").write_text(json.dumps(stored))
    train("--shards-only", data=[bag], work=work)
    with pytest.raises(ShardsError, match=r"another model: image_resize 'processor', now 'lanczos'"):
        train("--shards-only", "--image-resize", "lanczos", data=[bag], work=work)


def test_shards_of_other_data_are_not_mixed(labelled, tmp_path):
    other = write_bag(tmp_path / "bag", [(TASKS[0], pictures(4)[0])])
    with pytest.raises(ShardsError, match=r"another data: .*digest"):
        train(data=[other], work=labelled)


def test_one_episode_is_not_enough_to_hold_one_out(tmp_path):
    bag = write_bag(tmp_path / "bag", [(TASKS[0], pictures(4)[0])])
    with pytest.raises(ShardsError, match=r"the data are 1 episode\(s\); one has to be held out"):
        train(data=[bag], work=tmp_path / "work")


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    line(tmp_path, [3.0] * 10)[0].run()
    loop, _ = line(tmp_path, [], batch=3)
    with pytest.raises(LoopError, match=r"another training: batch 2, now 3; delete it"):
        loop.run()
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    loop, _ = line(tmp_path, [])
    with pytest.raises(LoopError, match=r"cannot be read"):
        loop.run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "argument --batch: expected a whole number from 1 to"),
        (["--width", "30"], "--width must be a multiple of 4"),
        (["--held-out", "1"], "argument --held-out: expected a number above 0 and at most 0.99"),
        (["--minutes", "0"], "argument --minutes: expected a number above 0"),
        (["--period", "nan"], "argument --period: expected a number from 0"),
        (["--threads", "100000"], "argument --threads: expected a whole number from 1 to 256"),
        (["--model", "openvla/openvla-7b"], "--out is needed: openvla/openvla-7b is no folder"),
        ([], "--out is needed without --model"),
        (["--device", "warp:1"], "warp:1 is no torch device"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_loaded(options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        train_draft.main(["train-draft", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_it_starts_with_what_its_extras_install():
    """Neither MuJoCo, nor matplotlib, nor DDS is among them."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('mujoco', 'matplotlib', 'cyclonedds'), None))\n"
        "from spec_vla_ros.training import train_draft; train_draft.parser()\n"
        "from spec_vla_ros.training.draft_sources import BagSource; import spec_vla_ros.recordings.frames"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("missing", ["rosbags", "mcap"])
def test_what_a_bag_needs_is_said_where_it_is_missing(tmp_path, missing):
    code = (
        f"import sys; sys.modules['{missing}'] = None\n"
        "from spec_vla_ros.training.draft_sources import *\n"
        f"open_source({str(tmp_path)!r}, SourceOptions(0.0), None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "SourceError" in done.stderr
    assert "pip install 'spec_vla_ros[bags,image]'" in done.stderr


def test_a_revision_reaches_the_hub_and_the_files_that_were_read_are_the_fingerprint(loaded, monkeypatch, tmp_path):
    from types import SimpleNamespace

    from spec_vla_ros.openvla.fingerprint import fingerprint

    asked = {}

    def load(path, device, dtype, key, revision, base_model, centre_crop, image_resize):
        asked.update(path=path, revision=revision, base_model=base_model)
        raise train_draft.SourceError("enough")

    monkeypatch.setattr(train_draft, "load_model", load)
    words = ["--model", "owner/name", "--revision", "v2", "--base-model", "owner/base@v3", "--out", str(tmp_path)]
    with pytest.raises(train_draft.SourceError, match="enough"):
        train_draft.main(["train-draft", *words])
    assert asked == {"path": "owner/name", "revision": "v2", "base_model": "owner/base@v3"}
    hub = lambda *_, **__: pytest.fail("it may be another revision")  # noqa: E731
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    parts = {name: getattr(loaded, name) for name in ("model", "statistics", "prompt", "transform")}
    snapshot = SimpleNamespace(**parts, source="owner/name", folder=MODEL, base=None)
    assert fingerprint(snapshot)["digest"] == fingerprint(loaded)["digest"]
    adapter = SimpleNamespace(**parts, source="owner/adapter", folder=tmp_path, base=MODEL)
    assert fingerprint(adapter)["base"] == fingerprint(loaded)["digest"]


def test_a_gpu_that_is_not_there_is_said_and_several_processes_share_none(monkeypatch):
    from spec_vla_ros.training.draft_parallel import ProcessesError, processes

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ProcessesError, match=r"there is no cuda:1; torch sees 1 CUDA"), processes("cuda:1"):
        pass
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name in ("cuda", "cuda:0"):
        with processes(name) as group:
            assert group.device == torch.device("cuda:0")
    assert taken == [torch.device("cuda:0")] * 2
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ProcessesError, match="2 processes cannot share cuda:0"), processes("cuda:0"):
        pass


def test_a_period_that_nobody_knows_is_asked_for(bag, loaded, monkeypatch):
    def unknown(key):
        raise ValueError("how long an action takes is not known: set step_dt to the data set's period")

    monkeypatch.setattr(train_draft, "action_period", unknown)
    with pytest.raises(train_draft.SourceError, match="set --period to"):
        train_draft._known_period(loaded, [str(bag)])
