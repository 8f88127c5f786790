"""How the tokens of an action come out of few passes of the language model. No ROS."""
