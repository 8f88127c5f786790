#!/bin/bash
# torch's environment first, so that the node's "env python3" is the one that has torch; then ROS and this package.
. /ws/venv/bin/activate
. /ws/install/setup.bash
exec "$@"
