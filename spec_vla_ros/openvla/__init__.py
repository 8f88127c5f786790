"""The model: pixels and text in, logits out. No ROS, no decoding policy."""
