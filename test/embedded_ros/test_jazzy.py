"""Bytes and type hashes, compared with those that a real Jazzy produced (``filled.py``)."""

import json
from pathlib import Path

import pytest
from filled import NAMES, fill, message_class
from rclpy.serialization import deserialize_message, serialize_message

from spec_vla_ros.embedded_ros.types import registry

JAZZY = json.loads((Path(__file__).parent / "data" / "jazzy.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_bytes(name):
    message = fill(message_class(name))
    raw = bytes.fromhex(JAZZY["bytes"][name])
    assert serialize_message(message).hex() == raw.hex()
    assert deserialize_message(raw, type(message)) == message


def test_hashes():
    known = [name for name in JAZZY["hashes"] if name in registry().store.fielddefs]
    assert len(known) > 150
    wrong = [name for name in known if registry().type_hash(name) != f"RIHS01_{JAZZY['hashes'][name]}"]
    assert wrong == []
