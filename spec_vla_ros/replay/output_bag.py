"""The replayed actions as a bag: what the node would have published, one pair of topics per decoder.

``/replay/<preset>/action`` (spec_vla_ros/DeltaAction) and ``/replay/<preset>/decode_stats`` (DecodeStats), stamped and
recorded at the stamps of their images, so that a player or a plot shows them beside the camera.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.motion.rotation import rotation_vector
from spec_vla_ros.recordings.writer import new_typestore, whole_bag
from spec_vla_ros.tolerance import Tolerance

ACTION, STATS = "spec_vla_ros/msg/DeltaAction", "spec_vla_ros/msg/DecodeStats"


def write(
    folder: Path, rows: Iterable[Mapping[str, Any]], presets: Sequence[str], bin_width: Sequence[float], period: float
) -> int:
    """Write ``folder`` (replaced if it exists); returns the number of messages.

    ``bin_width``: m, rad, gripper units per bin. ``period``: s of one action.
    """
    store, count = new_typestore(), 0
    with whole_bag(folder) as writer:
        connections = {
            (preset, kind): writer.add_connection(f"/replay/{preset}/{name}", kind, typestore=store)
            for preset in presets
            for name, kind in (("action", ACTION), ("decode_stats", STATS))
        }
        for row in rows:
            for preset in presets:
                entry = row.get("presets", {}).get(preset, {})
                if "values" not in entry:
                    continue
                messages = {ACTION: _action(store, row, entry, period), STATS: _stats(store, row, entry, bin_width)}
                for kind, message in messages.items():
                    raw = store.serialize_cdr(message, kind)
                    writer.write(connections[preset, kind], row["stamp_ns"], raw)
                    count += 1
    return count


def _header(store: Any, row: Mapping[str, Any]) -> Any:
    seconds, nanoseconds = divmod(row["stamp_ns"], 10**9)
    stamp = store.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    return store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="")


def _action(store: Any, row: Mapping[str, Any], entry: Mapping[str, Any], period: float) -> Any:
    values = entry["values"]
    return store.types[ACTION](
        header=_header(store, row),
        sequence=row["index"] + 1,
        delta=np.array(values[:6], dtype=np.float32),
        gripper=values[-1],
        step_dt=period,
        action_scale=1.0,
        limit_factor=1.0,
        commanded=False,
        instruction=row["instruction"],
        tokens=np.array(entry["tokens"], dtype=np.int32),
        bins=np.array(entry["bins"], dtype=np.int32),
        step=np.array([*values[:3], *rotation_vector(*values[3:6])], dtype=np.float32),
        unseen=np.zeros(6, dtype=np.float32),
        compensation="none",
    )


def _stats(store: Any, row: Mapping[str, Any], entry: Mapping[str, Any], bin_width: Sequence[float]) -> Any:
    passes, drafters = entry["passes"], entry["drafters"]
    tolerance = Tolerance.of_bins(entry["radius"], bin_width)
    times = {f"{name}_ms": value for name, value in entry["ms"].items()}
    return store.types[STATS](
        header=_header(store, row),
        sequence=row["index"] + 1,
        decoder="speculative" if drafters else "autoregressive",
        drafters=drafters,
        acceptance_radius=np.array(tolerance.bins, dtype=np.uint32),
        acceptance_radius_si=np.array(tolerance.in_units(bin_width), dtype=np.float32),
        draft_depth=entry["depth"],
        draft_width=entry["width"],
        emit=entry["emit"],
        verifier_passes=passes,
        drafted_per_pass=np.array(entry["drafted"], dtype=np.uint32),
        accepted_per_pass=np.array(entry["accepted"], dtype=np.uint32),
        drafter_per_pass=entry["drafter_per_pass"],
        token_source=entry["source"],
        max_accepted_distance=entry["distance"],
        **times,
        inference_ms=entry["ms"]["total"],
        image_age_ms=0.0,
        frames_skipped=0,
        pacing="blocking",
        late_ms=math.nan,
        standstill_share=math.nan,
    )
