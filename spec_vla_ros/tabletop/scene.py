"""The table top as MuJoCo XML: a six-axis arm with a two-finger gripper, three blocks, a plate and one camera.

Everything is made of primitives, so the scene needs no mesh files. Base frame: x forward, y left, z up, origin at the
foot of the arm on the table's surface; metres and radians.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

BLOCK_HALF = 0.02
PLATE_RADIUS = 0.06
PLATE_TOP = 0.008
FINGER_TRAVEL = 0.04  # m each finger moves from closed to fully open
COLORS = {"red": "0.85 0.10 0.10 1", "green": "0.10 0.65 0.15 1", "blue": "0.10 0.20 0.90 1"}
ARM_JOINTS = tuple(f"joint{i}" for i in range(1, 7))
FINGER_JOINTS = ("finger_left", "finger_right")
HOME = (0.0, -1.05, 1.75, 0.0, 0.87, 0.0)

# The shadow of the overhead light is the best depth cue that one camera gets, so shadows stay on; a small map keeps
# software rendering fast.
_HEADER = """
<mujoco model="tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.005" integrator="implicitfast" cone="elliptic" impratio="5"/>
  <visual>
    <quality shadowsize="512" offsamples="0" numslices="12" numstacks="8"/>
    <global offwidth="640" offheight="480"/>
    <headlight ambient="0.35 0.35 0.35" diffuse="0.25 0.25 0.25" specular="0 0 0"/>
    <map shadowclip="0.5" znear="0.05" zfar="10"/>
  </visual>
  <default>
    <geom contype="0" conaffinity="0" rgba="0.93 0.93 0.95 1"/>
    <default class="arm"><joint armature="0.02" damping="2.0"/>
      <position kp="400" kv="28" forcerange="-200 200"/></default>
    <default class="finger"><joint type="slide" range="0 0.04" armature="0.05" damping="8"/>
      <position kp="600" kv="40" ctrlrange="0 0.04" forcerange="-14 14"/></default>
    <default class="touching"><geom contype="1" conaffinity="1" condim="4" friction="1.6 0.02 0.0005"
      solref="0.008 1" solimp="0.95 0.99 0.001"/></default>
  </default>
  <worldbody>
    <light name="overhead" pos="0.42 0 1.6" dir="0 0 -1" directional="true" castshadow="true"
      diffuse="0.75 0.75 0.75" specular="0 0 0"/>
    <camera name="front" pos="0.98 0 0.66" xyaxes="0 1 0 -0.682 0 0.731" fovy="31"/>
    <geom name="table" class="touching" type="box" size="0.6 0.6 0.02" pos="0.35 0 -0.02" rgba="0.62 0.55 0.47 1"/>
"""

_ARM = """
    <geom type="cylinder" size="0.06 0.02" pos="0 0 0.02" rgba="0.25 0.25 0.28 1"/>
    <body gravcomp="1" name="link1" pos="0 0 0.04">
      <joint name="joint1" class="arm" axis="0 0 1" range="-2.9 2.9"/>
      <geom type="cylinder" size="0.045 0.11" pos="0 0 0.11"/>
      <body gravcomp="1" name="link2" pos="0 0 0.22">
        <joint name="joint2" class="arm" axis="0 1 0" range="-2.2 1.5"/>
        <geom type="capsule" size="0.036" fromto="0 0 0 0.3 0 0" rgba="0.95 0.75 0.20 1"/>
        <body gravcomp="1" name="link3" pos="0.3 0 0">
          <joint name="joint3" class="arm" axis="0 1 0" range="0.1 2.8"/>
          <geom type="capsule" size="0.030" fromto="0 0 0 0.22 0 0"/>
          <body gravcomp="1" name="link4" pos="0.22 0 0">
            <joint name="joint4" class="arm" axis="1 0 0" range="-2.9 2.9"/>
            <geom type="capsule" size="0.026" fromto="0 0 0 0.08 0 0" rgba="0.25 0.25 0.28 1"/>
            <body gravcomp="1" name="link5" pos="0.08 0 0">
              <joint name="joint5" class="arm" axis="0 1 0" range="-1.2 2.4"/>
              <geom type="sphere" size="0.030" rgba="0.95 0.75 0.20 1"/>
              <body gravcomp="1" name="hand" pos="0.05 0 0">
                <joint name="joint6" class="arm" axis="1 0 0" range="-2.9 2.9"/>
                <geom type="cylinder" size="0.022 0.02" quat="0.7071 0 0.7071 0" rgba="0.25 0.25 0.28 1"/>
                <geom class="touching" type="box" size="0.012 0.056 0.014" pos="0.032 0 0" rgba="0.1 0.1 0.1 1"/>
                <site name="tcp" pos="0.11 0 0" size="0.004" rgba="0 0 0 0"/>
                <body gravcomp="1" name="finger_left" pos="0.044 0.005 0">
                  <joint name="finger_left" class="finger" axis="0 1 0"/>
                  <geom class="touching" type="box" size="0.038 0.005 0.011" pos="0.038 0 0" rgba="0.95 0.45 0.85 1"/>
                </body>
                <body gravcomp="1" name="finger_right" pos="0.044 -0.005 0">
                  <joint name="finger_right" class="finger" axis="0 -1 0"/>
                  <geom class="touching" type="box" size="0.038 0.005 0.011" pos="0.038 0 0" rgba="0.95 0.45 0.85 1"/>
                </body>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
"""


def scene_xml() -> str:
    """The complete model."""
    plate = (
        f'<body name="plate" mocap="true" pos="0.4 0 0"><geom name="plate" class="touching" type="cylinder" '
        f'size="{PLATE_RADIUS} {PLATE_TOP / 2}" pos="0 0 {PLATE_TOP / 2}" rgba="0.97 0.97 0.97 1"/></body>'
    )
    blocks = "".join(
        f'<body name="{name}" pos="0.4 0 {BLOCK_HALF}"><freejoint name="{name}"/><geom name="{name}" class="touching" '
        f'type="box" size="{BLOCK_HALF} {BLOCK_HALF} {BLOCK_HALF}" mass="0.06" rgba="{rgba}"/></body>'
        for name, rgba in COLORS.items()
    )
    actuators = "".join(f'<position class="arm" joint="{j}"/>' for j in ARM_JOINTS)
    actuators += "".join(f'<position class="finger" joint="{j}"/>' for j in FINGER_JOINTS)
    exclude = "".join(f'<exclude body1="hand" body2="{j}"/>' for j in FINGER_JOINTS)
    world = f"{_HEADER}{_ARM}{plate}{blocks}</worldbody>"
    return f"{world}<contact>{exclude}</contact><actuator>{actuators}</actuator></mujoco>"


class Scene(Protocol):
    """What tasks and the expert look at: a :class:`.arm.TabletopArm`."""

    @property
    def tool_position(self) -> np.ndarray:
        """(3,) m."""

    @property
    def tool_rotation(self) -> np.ndarray:
        """(3, 3) relative to straight down."""

    @property
    def opening(self) -> float:
        """0 closed to 1 open."""

    @property
    def plate_position(self) -> np.ndarray:
        """(3,) m."""

    def block_pose(self, name: str) -> tuple[np.ndarray, float]:
        """Position (3,) m and yaw (rad)."""

    def held(self) -> str | None:
        """Colour of the block in the hand."""
