"""Camera and arm on one host, the act node on another: what the link between them costs, and what a broken one does.

Each row is one run over a link of its own (:mod:`.netns`): the arm's host (:mod:`.arm_host_node`) in one network
namespace, the real node in the other. Both ends read the same clock, which two real machines only do with chrony or
PTP; that is what allows times between them to be measured here.
"""

from __future__ import annotations

import bisect
import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.demo.summary import ActionRecord, TwistRecord
from spec_vla_ros.installed import model_folder
from spec_vla_ros.ros.children import Child, DemoError, act_arguments, end_all, environment, start

from .netns import ACT, ADDRESSES, ARM, Hosts, Quality, command

IMAGE_TIMEOUT = 0.5  # s, the node's default
FIRST_IMAGE_TIMEOUT = 15.0  # s; the arm's host may need a while to find the node
DOMAIN = 42  # nobody else is in these networks
PATIENCE = 180.0  # s beyond the drive for two processes to start, find each other and end
CLEAN = Quality()
_RADIO = Quality(delay_ms=5.0, jitter_ms=1.0, loss=0.01)

# One message per packet: what is lost then leaves no halves behind, for which the kernel would wait for 30 s.
_SMALL = "<CycloneDDS><Domain Id='any'><General><MaxMessageSize>1400B</MaxMessageSize></General></Domain></CycloneDDS>"


@dataclass(frozen=True)
class Row:
    """One run. ``width``, ``height``: px; ``rate``: Hz; ``compressed``: JPEG; ``peers``: each host names
    the other in ``ROS_STATIC_PEERS``; ``range``: ``ROS_AUTOMATIC_DISCOVERY_RANGE``; ``outage``: s for which the link is
    down; ``dds``: ``CYCLONEDDS_URI`` of both hosts, instead of the user's own.
    """

    about: str
    quality: Quality = CLEAN
    width: int = 224
    height: int = 224
    rate: float = 30.0
    compressed: bool = False
    peers: bool = False
    range: str = "SUBNET"
    outage: float = 0.0
    dds: str = ""


ROWS: dict[str, Row] = {
    "clean": Row("multicast discovery"),
    "peers": Row("no multicast, ROS_STATIC_PEERS", Quality(multicast=False), peers=True),
    "peers-only": Row("the same, range LOCALHOST", Quality(multicast=False), peers=True, range="LOCALHOST"),
    "camera": Row("clean", width=640, height=480),
    "delay": Row("5 ms +- 1 ms", replace(_RADIO, loss=0.0)),
    "loss": Row("5 ms +- 1 ms, 1 % lost", _RADIO),
    "loss-small": Row("5 ms +- 1 ms, 1 % lost, MaxMessageSize", _RADIO, dds=_SMALL),
    "loss-camera": Row("5 ms +- 1 ms, 1 % lost", _RADIO, 640, 480),
    "loss-jpeg": Row("5 ms +- 1 ms, 1 % lost", _RADIO, 640, 480, compressed=True),
    "slow-camera": Row("100 Mbit/s", Quality(rate_mbit=100.0), 640, 480),
    "slow-jpeg": Row("100 Mbit/s", Quality(rate_mbit=100.0), 640, 480, compressed=True),
    "outage": Row("down for 2 s", outage=2.0),
}


def measure(
    names: Sequence[str], seconds: float, say: Callable[[str], None], model: str = "", base_model: str = ""
) -> list[dict[str, Any]]:
    """The figures of the rows ``names``, each after ``seconds`` of driving. ``model``: checkpoint, "" = canned moves.

    Raises :class:`DemoError` where a run is not possible. Needs what :func:`.netns.missing` asks for.
    """
    results = []
    for name in names:
        row = ROWS[name]
        results.append({"row": name, **asdict(row), "seconds": seconds, **run(row, seconds, model, base_model)})
        say(report([results[-1]], head=len(results) == 1))
    return results


def run(row: Row, seconds: float, model: str = "", base_model: str = "") -> dict[str, Any]:
    """One run, as figures."""
    env = environment(DOMAIN)
    with tempfile.TemporaryDirectory() as folder, Hosts(row.quality) as hosts:
        result, log = Path(folder, "seen.json"), Path(folder, "act.log")
        task = {name: getattr(row, name) for name in ("width", "height", "rate", "compressed", "outage")}
        task |= {"namespace": hosts.names[ARM], "result": str(result), "seconds": seconds}
        act_command = command(hosts.names[ACT], "spec_vla_ros.node.act_node", _act_arguments(row, model, base_model))
        arm_command = command(hosts.names[ARM], f"{__package__}.arm_host_node", [json.dumps(task)])
        module = f"{__package__}.netns"
        children: list[Child] = []
        try:
            arm_log = Path(folder, "arm.log")
            arm = start(children, "the arm's host", module, arm_command, arm_log, {**env, **_discovery(row, ARM)})
            act = start(children, "the act node", module, act_command, log, {**env, **_discovery(row, ACT)})
            _wait(act, arm, result, time.monotonic() + seconds + row.outage + PATIENCE)
        finally:
            end_all(children)
        return figures(json.loads(result.read_text()), log.read_text())


def _wait(act: Child, arm: Child, result: Path, deadline: float) -> None:
    while not result.exists() or arm.alive:
        act.check()
        if not result.exists():
            arm.check()
        if time.monotonic() > deadline:
            raise DemoError(f"the run did not end. The end of {arm.log}:\n{arm.tail()}\nand {act.log}:\n{act.tail()}")
        time.sleep(0.1)


def _discovery(row: Row, host: str) -> dict[str, str]:
    """ROS 2's own variables, as a user would set them on that host."""
    peer = ADDRESSES[ACT if host == ARM else ARM]
    env = {"ROS_AUTOMATIC_DISCOVERY_RANGE": row.range, "ROS_STATIC_PEERS": peer if row.peers else ""}
    return env | ({"CYCLONEDDS_URI": row.dds} if row.dds else {})


def _act_arguments(row: Row, model: str, base_model: str) -> list[str]:
    values = {"image_timeout": str(IMAGE_TIMEOUT), "first_image_timeout": str(FIRST_IMAGE_TIMEOUT)}
    values |= {"instruction": "pick up the red block"}
    if model:
        values["model"] = str(model_folder(model))
        values |= {"base_model": base_model} if base_model else {}
    else:
        values |= {"policy": "scripted", "script_delay": "0.03"}  # s, as long as the small model thinks
    if row.compressed:
        values["image_transport"] = "compressed"
    return act_arguments(values)


# -- figures -----------------------------------------------------------------------------------------------------------


def figures(seen: dict[str, Any], act_log: str) -> dict[str, Any]:
    """From what the arm's host saw (:class:`.arm_host_node.Seen` as JSON) and the act node's log. Times in ms."""
    if seen["trouble"]:
        raise DemoError(f"{seen['trouble']}\n{act_log[-2000:]}")
    twists = [TwistRecord(**twist) for twist in seen["twists"]]
    actions = [ActionRecord(**action) for action in seen["actions"]]
    stopped_ns, fault = _fault(act_log, seen["ended_ns"])
    # A stream that has stopped on purpose has no jitter, and its velocities no latency.
    end = min(filter(None, [stopped_ns, seen["down_ns"], seen["ended_ns"]]))
    driving = [twist for twist in twists if seen["began_ns"] <= twist.received_ns <= end]
    latencies, overheads = latencies_ms(actions, driving)
    received = [twist.received_ns for twist in driving]
    result = {
        "image_bytes": seen["image_bytes"],
        "frames_sent": seen["sent"],
        "frames_received": seen["received"],
        "frames_lost_share": round(1.0 - seen["received"] / seen["sent"], 4),
        "actions": len(actions),
        "image_to_velocity_ms": spread(latencies),
        "image_to_velocity_less_inference_ms": spread(overheads),
        "velocity_interval_ms": spread([1e-6 * (b - a) for a, b in itertools.pairwise(received)]),
        "velocity_transit_ms": spread([1e-6 * (twist.received_ns - twist.stamp_ns) for twist in driving]),
        "velocities_refused": seen["refused"],
        "sink_stops": seen["stops"],
        "fault": fault,
        "fault_after_ms": round(1e-6 * (stopped_ns - seen["began_ns"]), 1) if stopped_ns else None,
    }
    return result | (_outage(seen, stopped_ns) if seen["down_ns"] else {})


def latencies_ms(actions: Sequence[ActionRecord], twists: Sequence[TwistRecord]) -> tuple[list[float], list[float]]:
    """Per action, from the image's stamp to the arrival of its first velocity at the arm: whole, less the inference."""
    moving = [twist for twist in twists if twist.moving]
    stamps = [twist.stamp_ns for twist in moving]
    whole, rest = [], []
    for action in actions:
        ready = action.image_ns + round(1e6 * action.inference_ms)
        i = bisect.bisect_left(stamps, ready)
        if i < len(moving) and stamps[i] - ready < 150e6:  # ns; later ones belong to the next action
            whole.append(1e-6 * (moving[i].received_ns - action.image_ns))
            rest.append(1e-6 * (moving[i].received_ns - ready))
    return whole, rest


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Median, 99th percentile, the largest, and how many there are."""
    if not values:
        return {"median": None, "p99": None, "max": None, "samples": 0}
    median, p99, largest = (round(float(np.percentile(values, q)), 2) for q in (50, 99, 100))
    return {"median": median, "p99": p99, "max": largest, "samples": len(values)}


def _fault(act_log: str, ended_ns: int) -> tuple[int, str]:
    """Time (ns) and name of the first fault before the camera stopped, or 0 and nothing."""
    found = re.search(r"\[(\d+)\.(\d+)\] \[\S+\]: stopped: (\w+)", act_log)
    if not found:
        return 0, ""
    at = int(found.group(1)) * 10**9 + int(found.group(2).ljust(9, "0")[:9])
    return (at, found.group(3)) if at < ended_ns else (0, "")


def _outage(seen: dict[str, Any], stopped_ns: int) -> dict[str, Any]:
    """What the outage did. Counts from the moment when the link went down (``down_ns``)."""
    down, up, rearm = seen["down_ns"], seen["up_ns"], seen["rearm_ns"]
    late = [twist for twist in seen["twists"] if up < twist["received_ns"] < rearm]
    forbidden = stopped_ns or down  # what was sent before and waited in a queue of the link arrives too old for the arm
    at_rest = [at for at, moves in seen["sink"] if at > down and not moves]
    return {
        "down_ms": round(1e-6 * (up - down), 1),
        "fault_after_ms": round(1e-6 * (stopped_ns - down), 1) if stopped_ns else None,
        "arm_stopped_after_ms": round(1e-6 * (min(at_rest) - down), 1) if at_rest else None,
        "motions_before_rearming": sum(moves for at, moves in seen["sink"] if forbidden < at < rearm),
        "velocities_before_rearming": len(late),
        "moving_before_rearming": sum(twist["moving"] for twist in late if twist["stamp_ns"] > forbidden),
        "motions_after_rearming": sum(moves for at, moves in seen["sink"] if at > rearm),
    }


def report(rows: Sequence[dict[str, Any]], head: bool = True) -> str:
    """The rows for people. Medians, 99th percentiles and numbers of samples."""
    form = "{:<12} {:<38} {:>16} {:>17} {:>22} {:>22} {:>24}  {}"
    title = (
        "row", "link", "image", "images arrived", "image to velocity ms", "less inference ms", "velocity interval ms",
        "fault",
    )  # fmt: skip
    lines = [form.format(*title)] if head else []
    for row in rows:
        kind = "jpeg" if row["compressed"] else "raw"
        lines.append(
            form.format(
                row["row"],
                row["about"],
                f"{row['width']} x {row['height']} {kind}",
                f"{row['frames_received']} of {row['frames_sent']}",
                _cell(row["image_to_velocity_ms"]),
                _cell(row["image_to_velocity_less_inference_ms"]),
                _cell(row["velocity_interval_ms"]),
                f"{row['fault']} after {row['fault_after_ms']:.0f} ms" if row["fault"] else "-",
            ).rstrip()
        )
        if row["outage"]:
            stop = row["arm_stopped_after_ms"]
            lines.append(
                f"  the arm stood still {f'{stop:.0f} ms' if stop is not None else 'never'} after the link went down; "
                f"link back after {row['down_ms']:.0f} ms: {row['motions_before_rearming']} motions, "
                f"{row['velocities_before_rearming']} velocities of which {row['moving_before_rearming']} not zero; "
                f"after deactivate and activate {row['motions_after_rearming']} motions"
            )
    return "\n".join(lines)


def _cell(values: dict[str, Any]) -> str:
    if not values["samples"]:
        return "- (0)"
    return f"{values['median']:.1f}, {values['p99']:.1f} ({values['samples']})"
