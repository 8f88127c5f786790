"""A declared subset of rclpy over Cyclone DDS, for machines without ROS 2. Enter through :mod:`.doorway`."""
