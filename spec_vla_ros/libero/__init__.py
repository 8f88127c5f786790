"""LIBERO's simulated tasks: episodes, evaluation and report without ROS, and the node that shows them to ROS."""
