"""What an operator sees in ``/diagnostics``: what the node is doing, what stopped it, and what decoding costs.

Plain functions over plain data; :mod:`.reporter` publishes what they say.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from spec_vla_ros.foreign_text import printable
from spec_vla_ros.motion.pacing import PACINGS

from .cycle import Cycle
from .worker import Outcome, Worker

if TYPE_CHECKING:
    from .arm_link import ArmLink

PARTS = ("control", "decoding")  # names of what :func:`parts` makes
WINDOW = 100  # inferences that mean and percentile look back on
IMAGES = ("IMAGE_STALE", "NO_IMAGE")  # faults that lost images cause


class DecodeWindow:
    """Cost of the last inferences."""

    def __init__(self) -> None:
        self._outcomes: deque[Outcome] = deque(maxlen=WINDOW)

    def add(self, outcome: Outcome) -> None:
        """Take a successful outcome into account."""
        self._outcomes.append(outcome)

    def values(self, bin_width: tuple[float, ...]) -> dict[str, str]:
        """Latency, passes, acceptance; settings, prompt and picture of the last inference. Empty before the first."""
        if not self._outcomes:
            return {}
        times = 1e3 * np.array([outcome.seconds for outcome in self._outcomes])
        reports = [outcome.result.report for outcome in self._outcomes]
        last, result = reports[-1], self._outcomes[-1].result
        accepted = np.mean([report.accepted_tokens for report in reports])
        values = {
            "inference_ms median": f"{np.median(times):.1f}",
            "inference_ms p99": f"{np.percentile(times, 99):.1f}",
            "verifier_passes mean": f"{np.mean([report.verifier_passes for report in reports]):.2f}",
            "accepted tokens per action": f"{accepted:.2f}",
            "first pass, last action": f"{last.drafter_per_pass[0] or 'no drafts'}, {last.drafted_per_pass[0]} rows",
            "decoder": last.decoder,
            "draft_depth": str(last.draft_depth),
            "emit": last.emit,
            "acceptance_radius bins": " ".join(map(str, last.tolerance.bins)),
        }
        if result.prompt:
            values["prompt"] = printable(result.prompt)
        if result.picture:
            values["picture"] = result.picture
        if len(bin_width) == last.tolerance.action_dim >= 6:
            si = 1e3 * np.array(last.tolerance.in_units(bin_width))
            values["acceptance_radius mm"] = " ".join(f"{value:.2f}" for value in si[:3])
            values["acceptance_radius mrad"] = " ".join(f"{value:.2f}" for value in si[3:6])
        return values


class Rates:
    """Images and actions per second since the last look."""

    def __init__(self) -> None:
        self._last: tuple[float, int, int] | None = None

    def take(self, now: float, frames: int, inferences: int) -> dict[str, str]:
        """Rates in Hz at steady time ``now`` (s); empty at the first look and after a restart of the counters."""
        last, self._last = self._last, (now, frames, inferences)
        if last is None or now <= last[0] or frames < last[1]:
            return {}
        seconds = now - last[0]
        return {
            "image rate Hz": f"{(frames - last[1]) / seconds:.1f}",
            "action rate Hz": f"{(inferences - last[2]) / seconds:.2f}",
        }


def parts(
    about: tuple[Any, ...], rates: Rates, worker: Worker | None, window: DecodeWindow
) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Level, line and values of everything that is there; ``about``: of :func:`control_summary`."""
    cycle, now = about[1], about[4]
    found = {"control": control_summary(*about)}
    if cycle is not None:
        found["control"][2].update(rates.take(now, cycle.counters.frames, cycle.counters.inferences))
    if worker is not None and worker.description:
        found["decoding"] = decoding_summary(worker, window)
    return found


def gpu_memory(device: str) -> dict[str, str]:
    """Memory of the GPU ``device`` ("cuda:0"), in MiB; empty for another device. Torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return {}
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:  # after an illegal access every call fails, and the fault has yet to be told
        return {"gpu_memory": f"unknown: {error}".splitlines()[0]}
    return {
        "gpu_memory MiB of this process": f"{torch.cuda.memory_reserved(device) / 2**20:.0f}",
        "gpu_memory MiB free": f"{free / 2**20:.0f} of {total / 2**20:.0f}",
    }


def control_summary(
    state: str,
    cycle: Cycle | None,
    dry_run: bool,
    arm: ArmLink | None,
    now: float,
    lost: tuple[str, bool] = ("", False),
) -> tuple[str, str, dict[str, str]]:
    """Level ("OK", "WARN", "ERROR"), one line, and the values behind it. ``lost``: of images that do not arrive, and
    whether that is certain (:meth:`.camera.Camera.lost`).
    """
    lost, certain = lost
    values = {"state": state, "dry_run": str(dry_run).lower()}
    if cycle is None or arm is None:
        return "OK", state, values
    rivals, listeners = arm.rivals, arm.listeners
    age = None if cycle.captured_at is None else now - cycle.captured_at
    report = arm.report
    values |= {
        "instruction": cycle.instruction,
        "image_age s": "" if age is None else f"{age:.3f}",
        "images lost": lost or "no",
        "frames received": str(cycle.counters.frames),
        "frames before end of step": str(cycle.counters.early),
        "frames overwritten": str(cycle.counters.overwritten),
        "inferences": str(cycle.counters.inferences),
        "outcomes dropped": str(cycle.counters.dropped),
        "speed limit hits": str(cycle.limit.hits),
        "gripper": {None: "undecided", True: "open", False: "closed"}[cycle.gripper.open],
        "images unchanged by motion": str(cycle.counters.unchanged),
        "command topic": arm.topic,
        "command subscribers": str(listeners),
        "other command publishers": str(rivals),
        "cycle": cycle.state.value,
        "pacing": PACINGS[cycle.steady],
        "safety process": f"{arm.safety.pid}, {report.priority}",
    }
    if (late := cycle.waits.late) is not None:
        values["standstill before steps_ms median"], values["standstill before steps_ms p99"] = (
            f"{1e3 * seconds:.1f}" for seconds in late
        )
    if (standstill := cycle.waits.standstill) is not None:
        values["standstill share"] = f"{standstill:.3f}"
    if cycle.image_age is not None:
        values["image_age at begin of step s"] = f"{cycle.image_age:.3f}"
    if report.intervals:
        names = ("median", "p99", "max")
        values |= {f"publish interval_ms {name}": f"{v:.2f}" for name, v in zip(names, report.intervals, strict=True)}
    if arm.tool_pose is not None:
        values["workspace limit hits"] = str(report.at_wall)
    if arm.servo is not None:
        values["servo status"] = arm.servo.status
    if cycle.fault is not None:
        remedy = f"{lost} {cycle.fault.remedy}" if lost and cycle.fault.name in IMAGES else cycle.fault.remedy
        values |= {"fault": cycle.fault.name, "detail": cycle.fault.detail, "remedy": remedy}
        return "ERROR", str(cycle.fault), values
    if state != "active":
        return ("WARN", f"{state}; images: {lost}", values) if certain else ("OK", state, values)
    if rivals:
        values["remedy"] = "Stop every other publisher of velocity commands before the dry run ends."
        return "WARN", f"SECOND_PUBLISHER: {rivals} other publishers of velocity commands", values
    if cycle.hold is not None:
        values |= {"fault": cycle.hold.name, "detail": cycle.hold.detail, "remedy": cycle.hold.remedy}
        return "WARN", f"holding: {cycle.hold}", values
    if age is None:
        values["remedy"] = lost or "Start the camera, or correct the name of its topic."
        return "WARN", "NO_IMAGE: waiting for the first image", values
    if certain:
        values["remedy"] = lost
        return "WARN", f"images: {lost}", values
    if not cycle.instruction:
        values |= {"fault": "NO_INSTRUCTION", "remedy": "Publish an instruction, or set the parameter."}
        return "WARN", "NO_INSTRUCTION: holding until an instruction arrives", values
    if not listeners and not dry_run:
        values["remedy"] = "Start the arm's driver or MoveIt Servo, or correct the remapping of delta_twist_cmds."
        return "WARN", f"nobody listens on {arm.topic}", values
    if arm.servo is not None and arm.servo.halted and not dry_run:
        values["remedy"] = "Look at MoveIt Servo's log; move the arm away by other means."
        return "WARN", f"MoveIt Servo: {arm.servo.halted}", values
    if not arm.ready and not dry_run:
        return "WARN", "waiting for the arm", values
    if cycle.overshoots:
        values["remedy"] = "Set compensation to catch_up, or pacing to blocking."
        return "WARN", f"the arm overshoots: images are {cycle.image_age:.2f} s old as steps begin", values
    return "OK", "dry run" if dry_run else "driving the arm", values


def decoding_summary(worker: Worker, window: DecodeWindow) -> tuple[str, str, dict[str, str]]:
    """The same of the loaded policy and what decoding costs."""
    values = worker.description | window.values(worker.bin_width)
    values |= gpu_memory(values.get("device", ""))
    problems = []
    if heads := values.get("draft_head_problems", ""):
        problems.append(f"decoding goes on without: {heads}")
    if (graphs := values.get("cuda_graphs", "off")) not in ("on", "off"):
        problems.append(f"cuda_graphs: {graphs}")
    if (kernels := values.get("kernels", "off")) not in ("on", "off"):
        problems.append(f"kernels: {kernels}")
    return "WARN" if problems else "OK", "; ".join(problems) or values["policy"], values
