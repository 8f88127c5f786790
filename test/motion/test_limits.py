"""One factor for the whole vector: a limited arm goes slower, never elsewhere."""

import math

import numpy as np
import pytest

from spec_vla_ros.errors import NonFiniteError
from spec_vla_ros.motion.limits import SpeedLimit


def test_a_slow_twist_passes_untouched():
    limit, twist = SpeedLimit(), np.array([0.05, 0, 0, 0, 0, 0.2])
    limited, factor = limit.apply(twist, 0.1, 0.5)
    np.testing.assert_array_equal(limited, twist)
    assert factor == 1.0
    assert limit.hits == 0


@pytest.mark.parametrize("seed", range(30))
def test_direction_is_kept_and_both_limits_hold(seed):
    rng = np.random.default_rng(seed)
    twist = rng.normal(0, 1, 6)
    max_linear, max_angular = rng.uniform(0.01, 2, 2)
    limited, factor = SpeedLimit().apply(twist, max_linear, max_angular)
    np.testing.assert_allclose(limited, twist * factor)
    assert np.linalg.norm(limited[:3]) <= max_linear * (1 + 1e-12)
    assert np.linalg.norm(limited[3:]) <= max_angular * (1 + 1e-12)


@pytest.mark.parametrize(
    ("twist", "factor"),
    [
        ([0.2, 0, 0, 0, 0, 0.1], 0.5),  # linear decides
        ([0.05, 0, 0, 0, 0, 2.0], 0.25),  # angular decides, and slows the linear part too
        ([0.3, 0, 0.4, 0, 0, 1.0], 0.2),  # the length of the vector, not its components; linear is the tighter one
        ([0.1, 0, 0, 0.5, 0, 0], 1.0),  # exactly at both limits is not a hit
    ],
)
def test_the_tighter_limit_decides_for_all_six(twist, factor):
    limit = SpeedLimit()
    limited, got = limit.apply(np.array(twist), 0.1, 0.5)
    assert got == pytest.approx(factor)
    np.testing.assert_allclose(limited, np.array(twist) * factor)
    assert limit.hits == (factor < 1)


@pytest.mark.parametrize("axis", range(6))
def test_every_axis_is_held_to_the_limit_of_its_own_half(axis):
    """A fast way up is no rotation, and a fast roll is no way."""
    twist, linear = np.zeros(6), axis < 3
    twist[axis] = 1.0
    assert SpeedLimit().apply(twist, 0.5, 2.0)[1] == (0.5 if linear else 1.0)
    assert SpeedLimit().apply(twist, 2.0, 0.5)[1] == (1.0 if linear else 0.5)


def test_a_list_of_numbers_is_a_twist_as_well():
    limited, factor = SpeedLimit().apply([0.2, 0, 0, 0, 0, 0.1], 0.1, 0.5)
    assert factor == 0.5
    np.testing.assert_allclose(limited, [0.1, 0, 0, 0, 0, 0.05])


def test_hits_are_counted():
    limit = SpeedLimit()
    for speed in (0.05, 0.2, 0.3, 0.1):
        limit.apply(np.array([speed, 0, 0, 0, 0, 0]), 0.1, 0.5)
    assert limit.hits == 2


@pytest.mark.parametrize(("max_linear", "max_angular"), [(0.0, 0.5), (0.1, 0.0), (-1.0, 0.5)])
def test_a_limit_of_zero_forbids_the_step(max_linear, max_angular):
    limited, factor = SpeedLimit().apply(np.full(6, 0.01), max_linear, max_angular)
    assert factor == 0.0
    assert not limited.any()


def test_zero_stays_zero_under_a_zero_limit():
    limit = SpeedLimit()
    limited, factor = limit.apply(np.zeros(6), 0.0, 0.0)
    assert not limited.any()
    assert (factor, limit.hits) == (1.0, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", range(6))
def test_nan_and_infinity_are_refused(bad, where):
    twist = np.zeros(6)
    twist[where] = bad
    with pytest.raises(NonFiniteError):
        SpeedLimit().apply(twist, 0.1, 0.5)


@pytest.mark.parametrize("limits", [(math.nan, 0.5), (0.1, math.nan), (math.inf, 0.5)])
def test_a_limit_that_is_not_a_number_is_refused(limits):
    with pytest.raises(NonFiniteError):
        SpeedLimit().apply(np.zeros(6), *limits)
