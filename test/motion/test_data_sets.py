"""The period of an action comes from its data set."""

import pytest

from spec_vla_ros.motion.data_sets import action_period


@pytest.mark.parametrize(
    ("key", "period"),
    [
        ("bridge_orig", 0.2),
        ("bridge", 0.2),
        ("bridge_oxe", 0.2),
        ("Bridge_Orig", 0.2),
        ("libero", 0.05),
        ("libero_spatial", 0.05),
        ("libero_10_no_noops", 0.05),
        ("tabletop", 0.2),
    ],
)
def test_what_is_known(key, period):
    assert action_period(key) == period


def test_what_is_not_known_is_asked_for_and_not_guessed():
    with pytest.raises(ValueError, match="step_dt"):
        action_period("fractal20220817_data")
