"""The simulated table top: physics, tasks and expert without ROS, and the node that shows them to ROS."""
