"""Recorded bags through the policy, without ROS: the same bag gives the same actions, twice."""
