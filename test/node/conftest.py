"""A node under test, a camera, an operator and an ear on every topic, over real DDS in one process.

Tests wait for events, never for time. "Nothing was sent" is shown by a sentinel: a message published afterwards on the
same topic must arrive first.
"""

import os

os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

import pytest

pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def ros():
    """One context for all tests of this process; signals stay with pytest."""
    try:
        from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

        ensure_rclpy()
    except ImportError as error:
        pytest.skip(str(error))
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield rclpy
    rclpy.try_shutdown()


@pytest.fixture
def rig(ros):
    """A factory of :class:`rig.Rig`; everything it made is stopped afterwards."""
    from rig import Rig

    rigs = []

    def make(policy=None, arguments=(), **parameters):
        rigs.append(Rig(policy, parameters, arguments))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()
