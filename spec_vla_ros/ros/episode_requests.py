"""What a simulator answers to a request for an episode that it does not run."""

from __future__ import annotations

from typing import Any

from spec_vla_ros.episode_state import State
from spec_vla_ros.foreign_text import sentence
from spec_vla_ros.msg import Episode


def refuse(node: Any, publisher: Any, request: Episode, why: str, header: tuple[Any, str]) -> None:
    """Say so to whoever asked and in the log of ``node``. ``header``: stamp and frame of the answer."""
    node.get_logger().warning(f"episode {request.id} refused: {sentence(why)}")
    answer = Episode(id=request.id, seed=request.seed, instruction=request.instruction, detail=why)
    answer.header.stamp, answer.header.frame_id = header
    answer.state = int(State.IDLE)
    publisher.publish(answer)
