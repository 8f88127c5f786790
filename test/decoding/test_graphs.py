"""Recording passes goes wrong safely: on a CUDA that is only played, because what is tested is what is left behind."""

import contextlib

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from spec_vla_ros.bench.decoding.shapes import eagle_head, random_heads, random_model, vision_head
from spec_vla_ros.decoding.drafters.eagle import Eagle, eagle_slots
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.decoding.graphs import Pool, Replay, state_of
from spec_vla_ros.decoding.heads.store import save_head, trained_drafters
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.presets import PRESETS
from spec_vla_ros.decoding.verifier import Verifier, cache_slots
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS, example_config
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings


class Stream:
    """Knows what it has waited for."""

    def __init__(self):
        self.waited = []

    def wait_stream(self, other):
        self.waited.append(other)


class PlayedCuda:
    """As torch: a recording has a stream of its own, which stays current where ending it raises."""

    def __init__(self):
        self.current, self.recordings, self.recording = Stream(), 0, False

    def install(self, monkeypatch):
        for name in ("current_stream", "Stream", "stream", "graph", "CUDAGraph", "set_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def current_stream(self):
        return self.current

    def set_stream(self, stream):
        self.current = stream

    Stream = Stream

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def graph(self, graph, pool=None):
        before, self.current, self.recording = self.current, Stream(), True
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        finally:
            self.recording = False
        self.current = before
        self.recordings += 1

    class CUDAGraph:
        def replay(self):
            pass


@pytest.fixture
def cuda(monkeypatch):
    played = PlayedCuda()
    played.install(monkeypatch)
    return played


@pytest.fixture
def pool():
    made = Pool(torch.device("cpu"))
    made.records = True
    return made


def test_a_recording_that_raises_leaves_the_stream_as_it_was(cuda, pool, caplog):
    before, calls = cuda.current, []

    def work():
        calls.append(cuda.recording)
        if cuda.recording:
            raise RuntimeError("operation not permitted when stream is capturing")
        return 7

    replay = Replay(work, pool, "a pass of 1 + 0 rows")
    assert replay() == 7, "the inference goes on"
    assert cuda.current is before
    assert calls == [False, False, True, False]
    assert "a pass of 1 + 0 rows" in pool.problem
    assert state_of([Pool(torch.device("cpu")), pool]) == pool.problem
    assert "failed" in caplog.text
    assert (replay(), cuda.recordings) == (7, 0)


def test_work_of_a_warm_up_that_raises_is_waited_for(cuda, pool):
    """What the side stream has begun would otherwise still write while the same is done again."""
    streams, before = [], cuda.current

    def work():
        streams.append(cuda.current)
        if len(streams) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    Replay(work, pool, "the vision towers")()
    assert cuda.current is before
    assert streams[1] in before.waited
    assert streams[2] is before


def test_nothing_is_recorded_while_an_arm_may_move(cuda, pool, caplog):
    early, late = (Replay(lambda: cuda.current, pool, name) for name in ("early", "late"))
    early()
    pool.close()
    for _ in range(3):
        early()
        assert late() is cuda.current
    assert cuda.recordings == 1
    assert pool.problem == "not recorded when the model was loaded, so slower: late"
    assert caplog.text.count("late was not recorded") == 1
    pool.open()
    late()
    assert cuda.recordings == 2


@pytest.fixture(scope="module")
def loaded():
    return random_model(example_config(), torch.device("cpu"), "float32")


def test_a_warm_up_asks_for_everything_that_parameters_allow(loaded, monkeypatch):
    """Every preset, and branches of the vision head up to its widest; a prompt of any size that there is."""
    asked = set()
    monkeypatch.setattr(Pool, "may_record", lambda self, name: asked.add(name))
    heads = {
        "vision": Vision(vision_head(loaded), fixed_shapes=True),
        "eagle": Eagle(eagle_head(loaded), loaded.model, eagle_slots(loaded), fixed_shapes=True),
    }
    verifier = Verifier(loaded.model, loaded.tokens, cache_slots(loaded), fixed_shapes=True)
    monkeypatch.setattr(loaded.tokens.__class__, "is_action", lambda self, token: True)  # of random weights
    monkeypatch.setattr(loaded.tokens.__class__, "to_bins", lambda self, ids: np.asarray(ids) % 255)
    policy = OpenVLAPolicy(loaded, heads, verifier=verifier, planner=Planner.steady())
    policy.warm_up(EXAMPLE_INSTRUCTIONS[0])
    warm, image = set(asked), np.zeros((48, 64, 3), dtype=np.uint8)
    words = (EXAMPLE_INSTRUCTIONS[0], "red " * 20, "red " * 90)
    settings = [DecodeSettings(preset=preset) for preset in PRESETS]
    for width in (1, 2, 5, 8):
        settings.append(DecodeSettings(preset="custom", drafters=("vision", "hold"), draft_width=width))
    for text in words:
        for setting in settings:
            policy.infer(image, text, setting)
    assert asked == warm
    policy.infer(image, words[0], DecodeSettings(preset="custom", drafters=("vision",), draft_width=9))
    assert asked > warm, "more than the widest"


def test_what_is_wrong_with_any_pool_is_said(loaded):
    heads = random_heads(loaded)
    policy = OpenVLAPolicy(loaded, heads)
    assert policy.describe()["cuda_graphs"] == policy.recording == "off"
    heads["vision"].pool.give_up("CUDA graphs are off, recording the look of the vision head failed: no")
    assert "the vision head failed" in policy.recording
    assert policy.describe()["cuda_graphs"] == policy.recording


def test_a_bench_measures_the_heads_that_the_node_has(tmp_path):
    """The same types and sizes, in every precision, and as few products; or their time says nothing."""
    loaded = random_model(example_config(), torch.device("cpu"), "bfloat16")
    bench = {"vision": vision_head(loaded), "eagle": eagle_head(loaded)}
    for name, head in bench.items():
        save_head(head, tmp_path / name, {})
    trained, problems = trained_drafters(loaded, tmp_path)
    assert not problems
    for name, head in bench.items():
        ours = {key: (tensor.dtype, tensor.shape) for key, tensor in trained[name].head.state_dict().items()}
        assert ours == {key: (tensor.dtype, tensor.shape) for key, tensor in head.state_dict().items()}
        assert {dtype for dtype, _ in ours.values()} == {torch.bfloat16}
    for head in (bench["eagle"], trained["eagle"].head):
        (layer,) = head.layers
        assert layer.self_attn.qkv is not None
        assert layer.mlp.gate_up is not None
