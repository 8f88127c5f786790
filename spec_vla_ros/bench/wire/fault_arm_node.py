"""A second arm of a fault campaign, in a process of its own, so that it can be suspended and killed.

It listens to the velocities as an arm's driver does, says ``joint_states``, and ends with its standard input.
"""

from __future__ import annotations

import select
import sys

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

ensure_rclpy()  # before the first import of rclpy or of a message package

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

NAME = "fault_arm"
PERIOD = 0.04  # s between two messages


def main() -> int:
    """``NAMESPACE`` on the command line. A line on standard output says that the arm is there."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node(NAME, namespace=sys.argv[1])
    # Never read: what matters is that somebody listens, and reading a hundred messages per second would cost a core.
    node.create_subscription(TwistStamped, "delta_twist_cmds", lambda message: None, 1, raw=True)
    joints = node.create_publisher(JointState, "joint_states", 10)
    message = JointState(name=["joint"], position=[0.0])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], PERIOD)[0]:
        joints.publish(message)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0
