"""The embedded runtime's own parts. What it shares with a real rclpy is tested in test/conformance."""

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("cyclonedds")
pytest.importorskip("rosbags")

sys.path.insert(0, str(Path(__file__).parent))  # for filled.py


def pytest_collection_modifyitems(items):
    """The embedded runtime never runs beside a real one."""
    if os.environ.get("AMENT_PREFIX_PATH"):
        for item in items:
            if Path(str(item.fspath)).parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason="a ROS 2 environment is sourced"))
