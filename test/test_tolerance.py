"""What all bounds on a draft come to: bins, mm, mrad, per dimension and in all, in one place."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tolerance import Tolerance

ROOT = Path(__file__).parents[1]
WIDTH = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 2 / 255)  # m, rad, gripper units of a bin
STILL = (*WIDTH[:4], 0.0, *WIDTH[5:])  # a data set that never pitches


def bins(width=WIDTH, **settings):
    return DecodeSettings(**{"acceptance_radius": 9, **settings}).tolerance(width).bins


def test_in_bins_alone_every_dimension_but_the_gripper_has_them():
    assert bins() == (9, 9, 9, 9, 9, 9, 0)
    assert bins(acceptance_radius=0) == (0,) * 7


def test_millimetres_bound_motions_and_leave_turns_to_the_bins():
    """One alone made the other exact."""
    assert bins(radius_mm=0.75) == (7, 3, 1, 9, 9, 9, 0)
    assert bins(radius_mrad=7.5) == (9, 9, 9, 7, 3, 1, 0)
    assert bins(radius_mm=0.75, radius_mrad=2.5) == (7, 3, 1, 2, 1, 0, 0)


def test_millimetres_tighten_bins_and_never_loosen_them():
    """They replaced them: 20 mm were 200 bins of a motion whose operator had allowed 9."""
    assert bins(radius_mm=20.0, radius_mrad=200.0) == (9, 9, 9, 9, 9, 9, 0)
    assert bins(radius_mm=20.0, acceptance_radius=255) == (200, 100, 40, 255, 255, 255, 0)


def test_the_tightest_of_all_bounds_holds_in_each_dimension():
    """Per dimension over mm over bins: who gave two of them got one."""
    given = {"radius_per_dimension": (20, 2, 20, 20, 20, 1, 0), "radius_mm": 0.75, "radius_mrad": 7.5}
    assert bins(**given) == (7, 2, 1, 7, 3, 1, 0)
    assert bins(**given, acceptance_radius=5) == (5, 2, 1, 5, 3, 1, 0)


def test_no_distance_at_all_is_exact_and_none_is_no_bound():
    assert bins(radius_mm=0.0) == (0, 0, 0, 9, 9, 9, 0)
    assert bins(radius_mm=None) == (9,) * 6 + (0,)


def test_whole_bins_are_not_lost_to_rounding():
    for count in range(1, 256):
        assert bins(radius_mm=count * 0.1, acceptance_radius=255)[0] == count


@pytest.mark.parametrize("seed", range(20))
def test_every_bound_that_was_given_holds_on_any_statistics(seed):
    chance = np.random.default_rng(seed)
    width = 10.0 ** chance.uniform(-6, -1, 7)
    mm, mrad, radius = 10 ** chance.uniform(-2, 1.3), 10 ** chance.uniform(-1, 2.3), int(chance.integers(0, 256))
    found = np.array(bins(width.tolist(), radius_mm=mm, radius_mrad=mrad, acceptance_radius=radius))
    limits = np.array([mm] * 3 + [mrad] * 3) / 1000
    assert (found <= radius).all()
    assert (found[:6] * width[:6] <= limits * (1 + 1e-6)).all()
    assert (((found + 1) * width > np.append(limits, 0)) | (found == radius)).all(), "and no bin is given away"


def test_a_dimension_that_never_moves_keeps_its_bins_and_costs_nothing():
    tolerance = DecodeSettings(radius_mm=0.1, radius_mrad=1.0, radius_sum=9).tolerance(STILL)
    assert tolerance.bins == (1, 0, 0, 1, 9, 0, 0)
    assert tolerance.costs == (1, 1, 1, 1, 0, 1, 1)
    assert tolerance.in_units(STILL) == pytest.approx((0.0001, 0, 0, 0.001, 0, 0, 0))


def test_distances_are_measured_by_what_the_arm_does():
    tolerance = Tolerance.of_bins((9, 9, 9, 9, 9, 9, 0), STILL, 10)
    distances = [[9, 0, 0, 0, 200, 0, 0], [5, 5, 0, 0, 50, 1, 0], [0, 10, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]]
    assert tolerance.beyond(distances).any(1).tolist() == [False, False, True, True]
    assert tolerance.spent(distances).tolist() == [9, 11, 10, 1]
    assert tolerance.over_budget(distances).tolist() == [False, True, False, False]
    assert not Tolerance.of_bins(tolerance.bins, STILL).over_budget([[255] * 7]).any()


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (WIDTH[:1], (0,)),
        (WIDTH[:2], (5, 0)),
        (WIDTH[:4], (5, 2, 1, 0)),
        (WIDTH[:5], (5, 2, 1, 9, 0)),
        ((*WIDTH, 0.1, 0.1), (5, 2, 1, 9, 9, 9, 9, 9, 0)),
    ],
)
def test_actions_of_other_sizes_end_with_what_is_never_drafted(width, expected):
    assert bins(width, radius_mm=0.5) == expected


def test_widths_beyond_all_sense_are_no_overflow():
    assert bins((5e-324,) * 7, radius_mm=20.0) == (9,) * 6 + (0,)
    assert bins((1e308,) * 7, radius_mm=20.0) == (0, 0, 0, 9, 9, 9, 0)


@pytest.mark.parametrize("values", [(), (1, 2, 3), (1,) * 8])
def test_values_for_another_number_of_dimensions_are_refused(values):
    with pytest.raises(ValueError, match=f"radius_per_dimension has {len(values)} values, the action has 7"):
        bins(radius_per_dimension=values)


def test_a_tolerance_of_the_gripper_is_refused_because_it_would_do_nothing():
    with pytest.raises(ValueError, match="the last dimension is never drafted: its tolerance is 0, got 5"):
        bins(radius_per_dimension=(9,) * 6 + (5,))


@pytest.mark.parametrize("name", ["radius_mm", "radius_mrad"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
def test_distances_that_are_none_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be finite and not negative, got {value}"):
        bins(**{name: value})


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"acceptance_radius": -1}, "tolerance is a whole number of bins from 0, got -1"),
        ({"acceptance_radius": 2.5}, "tolerance is a whole number of bins from 0, got 2.5"),
        ({"radius_per_dimension": (1, 1, -2, 1, 1, 1, 0)}, "got -2"),
        ({"radius_sum": -3}, "budget is a whole number of bins from 0, got -3"),
    ],
)
def test_numbers_of_bins_that_are_none_are_refused(given, named):
    with pytest.raises(ValueError, match=named):
        bins(**given)


def test_a_tolerance_is_a_value():
    assert {Tolerance.exact(3), Tolerance((0, 0, 0), (1, 1, 1))} == {Tolerance.exact(3)}
    with pytest.raises(ValueError, match="2 dimensions has 1 costs"):
        Tolerance((1, 0), (1,))


def test_nobody_needs_torch_or_ros_for_it():
    code = "import sys, spec_vla_ros.tolerance; sys.exit(bool({'torch', 'rclpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# -- the defaults


def test_every_default_of_decoding_is_that_of_the_settings():
    """The same numbers stood in six places, and two of them were others: a ``custom`` node drafted otherwise."""
    from spec_vla_ros.bench.cli import _parser as bench
    from spec_vla_ros.libero.options import Options as Libero
    from spec_vla_ros.node.parameters import PARAMETERS
    from spec_vla_ros.replay.cli import _parser as replay
    from spec_vla_ros.replay.options import Settings

    usual = DecodeSettings()
    node = {spec.name: spec.default for spec in PARAMETERS}
    assert tuple(node["drafters"]) == usual.drafters
    names = ("decoder", "acceptance_radius", "draft_depth", "draft_width", "second_look", "emit")
    assert {name: node[name] for name in names} == {name: getattr(usual, name) for name in names}
    for others in (Settings(), replay().parse_args(["bag"])):
        for name in ("acceptance_radius", "draft_depth", "second_look"):
            assert getattr(others, name) == getattr(usual, name)
    assert Settings().of("custom") == usual
    assert Libero("goal", "m", Path("w")).settings("custom") == usual
    assert bench().parse_args(["passes"]).second_look == usual.second_look
    assert usual.acceptance_radius in bench().parse_args(["passes"]).radii
    assert bench().parse_args(["libero", "--suite", "goal", "--model", "m"]).radius == usual.acceptance_radius
