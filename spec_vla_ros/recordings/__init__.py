"""Recordings that others made and ours: read, salvaged, cut into episodes, written. No ROS."""
