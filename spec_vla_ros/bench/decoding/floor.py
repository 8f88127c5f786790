"""The least time that a pass can take on a device: what it must read, or what it must compute, whichever is longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spec_vla_ros.openvla.config import OpenVLAConfig

if TYPE_CHECKING:  # names of precisions are wanted where torch is not loaded
    import torch

# Memory bandwidth in TB/s and dense bf16 arithmetic in TFLOP/s, from the makers' data sheets; first match counts.
DEVICES = (
    ("H200", 4.8, 989.0),
    ("H100", 3.35, 989.0),
    ("A100", 2.039, 312.0),
    ("4090", 1.008, 165.0),
    ("Orin", 0.2048, 42.5),
)
WEIGHT_BYTES = {
    "float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "float8": 1.0, "int8": 1.0, "int8_weights": 1.0,
    "int4_weights": 0.5,
}  # fmt: skip
# Products of formats that quantise what is multiplied with the weights, too: so many times as fast.
ARITHMETIC = {"float8": 2.0, "int8": 2.0}


@dataclass(frozen=True)
class Device:
    """``bandwidth`` in bytes/s, ``arithmetic`` in FLOP/s."""

    bandwidth: float
    arithmetic: float

    @staticmethod
    def named(name: str) -> Device | None:
        """The figures of a known device; None for others."""
        return next((Device(tb * 1e12, tf * 1e12) for known, tb, tf in DEVICES if known in name), None)

    @staticmethod
    def of(device: torch.device, bandwidth: float | None, tflops: float | None) -> Device | None:
        """The figures that somebody gives (TB/s, TFLOP/s), else those of a known GPU; None where nobody knows."""
        if bandwidth and tflops:
            return Device(bandwidth * 1e12, tflops * 1e12)
        if device.type != "cuda":
            return None
        import torch

        return Device.named(torch.cuda.get_device_name(device))

    def seconds(self, read: float, computed: float) -> float:
        """For so many bytes and floating-point operations."""
        return max(read / self.bandwidth, computed / self.arithmetic)


def layer_weights(config: OpenVLAConfig) -> float:
    """Weights of the language model's layers, norms aside."""
    llama = config.llama
    return llama.num_hidden_layers * (4 * llama.hidden_size**2 + 3 * llama.hidden_size * llama.intermediate_size)


def vision_work(config: OpenVLAConfig) -> tuple[float, float]:
    """Weights and floating-point operations of towers and projector for one image."""
    weights = operations = 0.0
    for tower in config.towers:
        rows = tower.patches + tower.registers + int(tower.class_token)
        block = 4 * tower.width**2 + 2 * tower.width * tower.mlp_width
        weights += tower.used_depth * block
        operations += tower.used_depth * (2 * block * rows + 4 * rows**2 * tower.width)
    width, hidden = config.vision_width, config.llama.hidden_size
    inner = 4 * width if config.fused else hidden
    projector = width * inner + inner * hidden + (hidden**2 if config.fused else 0)
    return weights + projector, operations + 2 * projector * config.towers[0].patches


def vision_floor_ms(config: OpenVLAConfig, device: Device, precision: str) -> float:
    """Towers and projector for one image; ``precision``: of the language model's layers."""
    weights, operations = vision_work(config)
    return 1e3 * device.seconds(_other(precision) * weights, operations)


def pass_floor_ms(config: OpenVLAConfig, device: Device, rows: int, seen: int, precision: str) -> float:
    """A pass of the language model over ``rows`` rows, those that only fill up included, ``seen`` of which are in the
    cache at its end.
    """
    llama, layers, other = config.llama, layer_weights(config), _other(precision)
    read = WEIGHT_BYTES[precision] * layers + other * llama.vocab_size * llama.hidden_size
    read += other * 2 * llama.num_hidden_layers * llama.hidden_size * seen
    computed = 2 * layers * rows / ARITHMETIC.get(precision, 1.0)
    computed += 4 * rows * seen * llama.hidden_size * llama.num_hidden_layers
    return 1e3 * device.seconds(read, computed)


def floor_ms(config: OpenVLAConfig, device: Device, rows: Sequence[int], precision: str) -> float:
    """One action: towers, then passes over ``rows`` rows each, of which the first includes the prompt; rows that only
    fill a pass up are rows.

    Counts the verifier only: drafting is what a decoder adds, and should show. ``precision``: of the layers.
    """
    total, seen = vision_floor_ms(config, device, precision), 0
    for count in rows:
        seen += count
        total += pass_floor_ms(config, device, count, seen, precision)
    return total


def _other(precision: str) -> float:
    """Bytes of a number outside of the layers."""
    return 4.0 if precision == "float32" else 2.0
