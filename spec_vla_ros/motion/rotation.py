"""From a data set's action (deltas of position and Euler angles) to a velocity in the base frame.

The rotation part of an OpenVLA action is a triple of fixed-axis angles: dR = Rz(yaw) Ry(pitch) Rx(roll), premultiplied
about the end effector in base-aligned axes. Neither the triple itself nor the triple divided by time is an angular
velocity (12 mrad off per full-scale step); the rotation vector of dR is what a twist turns into.
"""

from __future__ import annotations

import math

import numpy as np

from spec_vla_ros.errors import NonFiniteError


def rotation_vector(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """(3,) rotation vector (rad, base axes) of Rz(yaw) Ry(pitch) Rx(roll); its length is at most pi.

    Goes through the quaternion, which stays accurate for tiny angles and near half a turn.
    """
    cr, sr = math.cos(roll / 2), math.sin(roll / 2)
    cp, sp = math.cos(pitch / 2), math.sin(pitch / 2)
    cy, sy = math.cos(yaw / 2), math.sin(yaw / 2)
    w = cy * cp * cr + sy * sp * sr
    xyz = np.array(
        [
            cy * cp * sr - sy * sp * cr,
            cy * sp * cr + sy * cp * sr,
            sy * cp * cr - cy * sp * sr,
        ]
    )
    return _vector_of(w, xyz)


def lengths(motion: np.ndarray) -> np.ndarray:
    """(2,) lengths of the linear and the angular half of a (6,) displacement or twist."""
    return np.linalg.norm(np.reshape(motion, (2, 3)), axis=1)


def composed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(6,) displacement of ``first`` and then ``second``, each (6,): m, and a rotation vector in rad, base axes.

    Positions add up, because rotations are about the tool; rotations are premultiplied: R = R(second) R(first).
    """
    return np.concatenate([first[:3] + second[:3], _product(second[3:], first[3:])])


def remainder(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(6,) displacement that is left of ``whole`` after ``part``; :func:`composed` with that it is ``whole``."""
    return np.concatenate([whole[:3] - part[:3], _product(whole[3:], -part[3:])])


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(3,) rotation vector of R(left) R(right)."""
    (a, u), (b, v) = _quaternion(left), _quaternion(right)
    return _vector_of(a * b - float(u @ v), a * v + b * u + np.cross(u, v))


def _quaternion(vector: np.ndarray) -> tuple[float, np.ndarray]:
    """Scalar and (3,) vector part, of a rotation vector."""
    angle = float(np.linalg.norm(vector))
    share = 0.5 if angle < 1e-12 else math.sin(angle / 2) / angle
    return math.cos(angle / 2), np.asarray(vector, dtype=np.float64) * share


def _vector_of(w: float, xyz: np.ndarray) -> np.ndarray:
    """(3,) rotation vector of a unit quaternion; its length is at most pi."""
    if w < 0:  # q and -q are the same rotation; take the short way round
        w, xyz = -w, -xyz
    half_sine = float(np.linalg.norm(xyz))
    if half_sine < 1e-12:
        return 2 * xyz
    return xyz * (2 * math.atan2(half_sine, w) / half_sine)


def displacement(delta: np.ndarray, action_scale: float) -> np.ndarray:
    """(6,) motion, m and rotation vector in rad, base axes: ``action_scale`` of one action.

    ``delta``: (6,) dx dy dz (m) and droll dpitch dyaw (rad) of one step. The rotation is scaled along its geodesic,
    so half an action turns about the same axis. Raises :class:`NonFiniteError` for NaN or infinite values.
    """
    delta = np.asarray(delta, dtype=np.float64)
    if delta.shape != (6,):
        raise ValueError(f"an action moves in 6 dimensions (dx dy dz droll dpitch dyaw), got shape {delta.shape}")
    if not np.isfinite(delta).all():
        raise NonFiniteError(f"the action is not finite: {delta.tolist()}")
    return np.concatenate([delta[:3], rotation_vector(*delta[3:])]) * action_scale


def step_twist(delta: np.ndarray, action_scale: float, step_dt: float) -> np.ndarray:
    """(6,) twist (m/s, rad/s, base axes) that, held for ``step_dt`` seconds, is :func:`displacement`."""
    return displacement(delta, action_scale) / step_dt
