"""How a node here declares a parameter: as a line of a table, with the range that becomes a slider in rqt.

No ROS is imported until the parameters are declared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spec:
    """One parameter. ``range``: inclusive (low, high) of a number, which becomes a slider in rqt.

    A slider of a float sends multiples of a hundredth of its length: ``low`` has to be one of them, or the left end is
    a value that is refused while rqt shows it as set.
    """

    name: str
    default: Any
    description: str
    range: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False


def fixed(name: str, default: Any, description: str, **more: Any) -> Spec:
    """A parameter that is read by configure and cannot change afterwards."""
    return Spec(name, default, description, read_only=True, **more)


def declare_all(node: Any, specs: Iterable[Spec]) -> None:
    """Declare ``specs`` on ``node``, with ranges that become sliders."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    for spec in specs:
        text = f"{spec.description} ({' | '.join(spec.choices)})" if spec.choices else spec.description
        descriptor = ParameterDescriptor(description=text, read_only=spec.read_only)
        if spec.range is not None:
            low, high = spec.range
            if isinstance(spec.default, float):  # step 0.0: sliders produce values on no grid
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        node.declare_parameter(spec.name, spec.default, descriptor)
