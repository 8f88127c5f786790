"""What decoding costs and saves. No ROS."""
