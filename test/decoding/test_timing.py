"""Measuring what passes and drafters take: on a clock that stands still but for what they say that they take."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from spec_vla_ros.decoding import timing
from spec_vla_ros.decoding.drafters import TRAINING_FREE, Drafter, Observation
from spec_vla_ros.decoding.timing import agree, measure, time_drafting
from spec_vla_ros.openvla.action_tokens import ActionTokens

TOKENS = ActionTokens()
A, ROWS = 7, 40
SEEN = Observation(torch.zeros(1, 30, 2), torch.zeros(1, 10, 2), torch.ones(1, ROWS, 2))


class Clock:
    """Stands in for the module ``time``."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


class Slow(Drafter):
    """Takes ``seconds(width)`` each time, after ``first`` s more the first time; keeps what it was asked."""

    def __init__(self, clock, seconds, name="slow", widest=8, first=0.0, **kind):
        self.clock, self.seconds, self.name, self.widest, self.first = clock, seconds, name, widest, first
        self.asked, self.begun = [], []
        self.from_verifier, self.one_width = kind.get("from_verifier", False), kind.get("one_width", False)

    def begin(self, observation):
        self.begun.append(observation)
        self.clock.now += 1.0 if observation is SEEN else 0.0

    def propose(self, context):
        self.asked.append(context)
        self.clock.now += self.seconds(context.width) + (self.first if len(self.asked) == 1 else 0.0)
        return []


class Passes:
    """Stands in for the verifier; ``busy``: s that other work adds to each call, in their order."""

    tokens = TOKENS

    def __init__(self, fixed=False, first=2.0, later=1.0, row=1 / 64, busy=()):
        self.fixed, self.first, self.later, self.row = fixed, first, later, row
        self.busy, self.timed = list(busy), []

    def time_pass(self, rows, *, prompt_rows=None):
        self.timed.append((rows, prompt_rows))
        disturbed = self.busy.pop(0) if self.busy else 0.0
        return (self.later if prompt_rows is None else self.first) + rows * self.row + disturbed


# -- drafters


def test_asking_for_one_branch_and_for_all_is_timed_with_a_new_image_each_time(clock):
    drafter = Slow(clock, lambda width: width / 10, first=50.0)
    assert time_drafting(drafter, TOKENS, SEEN, A) == pytest.approx((1.1, 1.8)), "what is built once does not count"
    assert [context.width for context in drafter.asked] == [1] * 6 + [8] * 6
    assert drafter.begun == [SEEN] * 12 + [None], "and afterwards it has nothing left to see"


def test_the_least_of_several_answers_counts(clock):
    moments = iter([9.0, 3.0, 0.5, 2.0, 4.0, 3.0, 9.0, 0.7, *[1.0] * 4])
    assert time_drafting(Slow(clock, lambda width: next(moments)), TOKENS, SEEN, A) == pytest.approx((1.5, 1.7))


def test_who_takes_the_same_for_any_width_is_asked_for_all_only(clock):
    """Each width of the vision head is a recording of its own."""
    drafter = Slow(clock, lambda width: 0.5, one_width=True)
    assert time_drafting(drafter, TOKENS, SEEN, A) == pytest.approx((1.5, 1.5))
    assert {context.width for context in drafter.asked} == {8}


def test_a_drafter_is_timed_on_the_whole_rest_of_an_action_with_earlier_ones_to_look_back_on(clock):
    drafter = Slow(clock, lambda width: 0.0)
    time_drafting(drafter, TOKENS, SEEN, A)
    told = drafter.asked[0]
    assert (told.first, told.count, told.emitted, told.rejected, told.states) == (0, A - 1, [], (), None)
    assert (list(told.radii), told.width) == ([9] * (A - 1) + [0], 1)
    assert TOKENS.to_bins(told.history).tolist() == [[127 + 5 * step] * A for step in range(8)], "a motion that goes on"


def test_who_builds_on_the_verifier_is_timed_behind_a_pass(clock):
    """``eagle`` runs a layer of the model per level; it counted as free, and the automatic tree always asked for it."""
    drafter = Slow(clock, lambda width: 0.25, from_verifier=True)
    assert time_drafting(drafter, TOKENS, SEEN, A) == pytest.approx((1.25, 1.25))
    told = drafter.asked[0]
    assert (told.first, told.count, len(told.emitted), len(told.rejected)) == (1, A - 2, 1, A - 2)
    assert told.states.hidden.shape == SEEN.prompt.shape, "those of the prompt"
    assert told.rows == told.emitted
    assert {*TOKENS.to_bins([*told.emitted, *told.rejected])} == {127 + 5 * 8}, "what the motion comes to next"


@pytest.mark.parametrize("dimensions", [1, 2, 3, 14])
def test_drafters_of_actions_of_any_size_are_timed(dimensions):
    for drafter in TRAINING_FREE.values():
        assert 0 < min(time_drafting(drafter, TOKENS, SEEN, dimensions)) < 1


def test_of_an_action_of_one_dimension_one_is_drafted_for_the_sake_of_a_time(clock):
    drafter = Slow(clock, lambda width: 0.0)
    time_drafting(drafter, TOKENS, SEEN, 1)
    assert drafter.asked[0].count == 1


# -- passes


def test_every_size_is_timed_behind_the_prompt_and_behind_one_token(clock):
    verifier = Passes()
    table = measure(verifier, [Slow(clock, lambda width: width / 10, "a")], SEEN, A)
    assert (table.rows, table.steps) == ((0, 6, 16, 32, 64), False)
    assert table.first == tuple(2 + rows / 64 for rows in table.rows)
    assert table.later == tuple(1 + rows / 64 for rows in table.rows)
    assert table.drafting == {"a": pytest.approx((1.1, 1.8))}
    assert set(verifier.timed) == {(rows, many) for rows in table.rows for many in (ROWS, None)}


def test_where_passes_are_filled_up_their_sizes_are_timed():
    table = measure(Passes(fixed=True), [], SEEN, A)
    assert (table.rows, table.steps) == ((0, 8, 32, 48, 64), True)


def test_what_disturbs_one_moment_makes_no_size_look_dear():
    quick = Passes(first=0.1, later=0.01, row=0.001, busy=[0.2, 0.2, 0.2])
    table = measure(quick, [], SEEN, A)
    assert len(quick.timed) == 20, "twice through all of them"
    assert table.first == pytest.approx([0.1 + rows / 1000 for rows in table.rows])
    assert table.later == pytest.approx([0.01 + rows / 1000 for rows in table.rows])


def test_passes_that_take_long_are_timed_once():
    for shortest, row, calls in ((0.6, 0.0, 10), (0.5, 0.0, 20), (0.1, 0.01, 10)):
        verifier = Passes(first=shortest, later=0.01, row=row)
        assert measure(verifier, [], SEEN, A).first[0] == shortest
        assert len(verifier.timed) == calls


# -- a table from an earlier time


def test_a_table_that_is_far_from_what_a_pass_takes_now_is_not_believed(clock):
    drafters = [Slow(clock, lambda width: width / 10, "a")]
    table = measure(Passes(), drafters, SEEN, A)
    assert agree(table, Passes(), drafters, SEEN, A)
    times = {name: list(getattr(table, name)) for name in ("first", "later")}
    for name, place, wrong in (
        ("first", 0, 3.1), ("first", 0, 1.3), ("first", -1, 5.0), ("first", -1, 1.9),
        ("later", 0, 0.6), ("later", 0, 1.6), ("later", -1, 1.2), ("later", -1, 4.0),
    ):  # fmt: skip
        changed = [*times[name]]
        changed[place] = wrong
        assert not agree(replace(table, **{name: tuple(changed)}), Passes(), drafters, SEEN, A), (name, place, wrong)
        changed[place] = times[name][place] * (1.4 if wrong > times[name][place] else 0.7)
        assert agree(replace(table, **{name: tuple(changed)}), Passes(), drafters, SEEN, A), (name, place)


def test_it_is_compared_with_passes_behind_the_prompt_and_behind_one_token(clock):
    verifier = Passes()
    agree(measure(Passes(), [], SEEN, A), verifier, [], SEEN, A)
    assert verifier.timed == [(0, ROWS), (64, ROWS), (0, None), (64, None)]


def test_a_table_that_is_far_from_what_a_drafter_takes_now_is_not_believed(clock):
    """One that was measured while it had to wait for the device was never asked again."""
    drafters = [Slow(clock, lambda width: width / 10, "a")]
    table = measure(Passes(), drafters, SEEN, A)
    for wrong in ((1.1, 3.0), (0.6, 1.8), (1.8, 1.8), (1.1, 1.0)):
        assert not agree(replace(table, drafting={"a": wrong}), Passes(), drafters, SEEN, A), wrong
    assert agree(replace(table, drafting={"a": (1.5, 2.4)}), Passes(), drafters, SEEN, A)


def test_microseconds_of_a_drafter_decide_nothing(clock):
    """Whatever is far below a pass may be several times as long from one day to the next."""
    clock.now, drafter = 0.0, Slow(clock, lambda width: 0.0, "a")
    drafter.begin = lambda observation: None
    for told, takes, believed in ((0.019, 0.0, True), (0.021, 0.0, False), (0.0, 0.019, True), (0.0, 0.021, False)):
        drafter.seconds = lambda width, takes=takes: takes
        table = replace(measure(Passes(), [], SEEN, A), drafting={"a": (told, told)})
        assert agree(table, Passes(), [drafter], SEEN, A) == believed, "of a pass of 2 s"


def test_a_table_in_which_a_drafter_is_missing_is_not_believed(clock):
    """A head that was added, or one that is timed only since then: it would count as free."""
    drafters = [Slow(clock, lambda width: 0.0, name) for name in ("a", "b")]
    table = measure(Passes(), drafters[:1], SEEN, A)
    assert agree(table, Passes(), drafters[:1], SEEN, A)
    verifier = Passes()
    assert not agree(table, verifier, drafters, SEEN, A)
    assert verifier.timed == [], "nothing needs to be timed for that"


# -- what a table is for


def described(**changes):
    model = SimpleNamespace(device=torch.device("cpu"), parameter_count=torch.tensor(7), arithmetic="float32")
    loaded = SimpleNamespace(config={"layers": 2}, model=model)
    verifier = SimpleNamespace(fixed=False, pool=SimpleNamespace(records=False))
    for name, value in changes.items():
        place = {"config": loaded, "fixed": verifier, "records": verifier.pool}.get(name, model)
        setattr(place, name, value)
    return timing.about(loaded, verifier, changes.get("heads", {}), changes.get("rows", 64))


def test_a_table_is_for_one_model_device_precision_software_and_prompt():
    about = described()
    assert about == described()
    assert about["device"] == f"cpu, {torch.get_num_threads()} threads"
    assert type(about["parameters"]) is int, "it goes into a file"
    for other in (
        {"config": {"layers": 3}}, {"parameter_count": 8}, {"arithmetic": "int8"}, {"fixed": True}, {"records": True},
        {"heads": {"vision": None}}, {"rows": 96},
    ):  # fmt: skip
        assert described(**other) != about, other
    assert set(about["drafters"]) == set(TRAINING_FREE)
    assert set(about) == {
        *("model", "parameters", "precision", "device", "fixed_shapes", "recorded", "prompt_rows", "heads"),
        *("drafters", "torch", "spec_vla_ros"),
    }  # fmt: skip


def test_on_a_gpu_its_name_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert described(device=torch.device("cuda", 1))["device"] == "card 1"
