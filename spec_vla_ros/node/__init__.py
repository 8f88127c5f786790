"""The ROS shell around policy and motion. :mod:`.cycle` decides, :mod:`.act_node` connects it to topics and states."""
