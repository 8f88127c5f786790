"""A node under test, a camera, an operator and an ear on every topic, over real DDS in one process.

Tests wait for events, never for time. "Nothing was sent" is shown by a sentinel: a message published afterwards on the
same topic must arrive first.
"""

import pytest

pytest.importorskip("numpy")


@pytest.fixture
def rig(ros):
    """A factory of :class:`rig.Rig`; everything it made is stopped afterwards."""
    from rig import Rig

    rigs = []

    def make(policy=None, arguments=(), **parameters):
        rigs.append(Rig(policy, parameters, arguments))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()
