"""What a recorded episode says of itself: the outcomes of ``msg/EpisodeRecord.msg``, and names of folders. No ROS."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timezone
from enum import IntEnum

TOPIC = "episode_record"  # below the act node's name
TYPE = "spec_vla_ros/msg/EpisodeRecord"
BEGUN, ENDED = 0, 1  # phases
SLUG = 40  # characters of an instruction in the name of a folder
WORKPLACE = ".recorder-"  # begins the names of folders in which a recorder is at work


class Outcome(IntEnum):
    """How an episode ended; the message's comments explain each."""

    UNKNOWN = 0
    SUCCEEDED_AT_REST = 1
    TIME_LIMIT = 2
    CANCELLED = 3
    PREEMPTED = 4
    FAULT = 5
    NOT_ACTIVE = 6
    REFUSED = 7
    CLIENT_GONE = 8
    HELD = 9
    NODE_GONE = 10
    NOT_RECORDED = 11

    @classmethod
    def named(cls, number: int) -> str:
        """Of a message, which may be of a later version than this."""
        return cls(number).name if number in cls._value2member_map_ else f"outcome {number}"


def slug(text: str) -> str:
    """``text`` as a part of a file name: at most :data:`SLUG` small letters, digits and underscores, never empty.

    An instruction is foreign text: it names no other folder, no hidden one, and nothing that a shell would read.
    """
    plain = unicodedata.normalize("NFKD", text[: 4 * SLUG]).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain)[:SLUG].strip("_") or "instruction"


def episode_name(wall_seconds: float, instruction: str) -> str:
    """``20260131T235959Z_pick_up_the_cup``, of an episode that began at ``wall_seconds`` since 1970."""
    return f"{datetime.fromtimestamp(wall_seconds, timezone.utc):%Y%m%dT%H%M%SZ}_{slug(instruction)}"
