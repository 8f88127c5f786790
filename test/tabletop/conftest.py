"""One arm for all tests of the physics: building the model takes longer than most of them."""

import pytest

pytest.importorskip("mujoco")


@pytest.fixture(scope="session")
def arm():
    from spec_vla_ros.tabletop.arm import TabletopArm

    arm = TabletopArm((64, 64))
    yield arm
    arm.close()
