"""A small recorded run for the tests of what is made from it."""

import pytest

pytest.importorskip("rosbags")


@pytest.fixture(scope="session")
def recorded():
    from recorded_run import record

    return record()
