"""One part of a campaign, in a process of its own: ``python -m spec_vla_ros.bench.gpu.part NAME OPTIONS OUT``.

Rows go to the file OUT as JSON; whatever goes wrong ends the process, and its last words are the reason.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spec_vla_ros.bench.decoding.floor import Device
from spec_vla_ros.bench.decoding.replayed import Trace
from spec_vla_ros.bench.decoding.shapes import config_of
from spec_vla_ros.installed import TABLETOP, model_folder
from spec_vla_ros.openvla.devices import named_device, use_threads
from spec_vla_ros.outputs import write_text

from . import checks, kernel_checks, timings
from .plan import CHECK, COMPILED, LATENCY, PASSES, REFERENCE, Options

SMALL = "small"


def rows_of(name: str, options: Options, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """What the part ``name`` finds out. Raises whatever goes wrong."""
    use_threads(options.threads)
    device, shapes = named_device(options.device), TABLETOP if options.shapes == SMALL else options.shapes
    config = config_of(shapes, options.base_model, options.layers)
    limits = Device.of(device, options.bandwidth, options.tflops)
    kind, _, what = name.partition(" ")
    if kind == CHECK:
        known = {
            "device": checks.device_against_host,
            "recorded": checks.recorded_against_eager,
            "fused": checks.fused_against_plain,
            "kernels": kernel_checks.kernels_against_plain,
            "compiled": checks.compiled_against_plain,
        }
        if what in known:
            return known[what](config, device)
        return checks.precision_against_reference(config, device, what, REFERENCE)
    if kind == PASSES:
        return timings.passes(config, device, what, limits, say)
    if name == "profile":
        return timings.profile(config, device, REFERENCE)
    if kind != LATENCY:
        raise ValueError(f"there is no part {name!r}")
    trace = Trace.load(Path(options.trace) if options.trace else model_folder() / "trace.json")
    compiled = name == COMPILED
    precision = REFERENCE if compiled else what
    return timings.latency(config, device, precision, trace, options.actions, limits, say, compiled)


def main() -> int:
    """Run the part that the command line names."""
    name, options, out = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")  # the file that the campaign keeps
    rows = rows_of(name, Options(**json.loads(options)), logging.getLogger(__name__).info)
    write_text(Path(out), json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
