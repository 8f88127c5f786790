"""What speed is worth to the task: the node's cycle and safety loop on the table top, in emulated time."""
