"""What the arm is told: rotations, speed limits, the step stream, the gripper and the dead-man. No ROS, numpy only.

Time is always a number of seconds on the steady clock, passed in by the caller, so that tests drive it by hand.
"""
