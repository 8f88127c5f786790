"""Training of the small table-top policy. No ROS."""
