"""OpenVLA with speculative decoding and relaxed acceptance, as a ROS 2 package."""

from pkgutil import extend_path

# The ROS build installs generated interfaces as ``spec_vla_ros.msg`` beside this package. Python run from the source
# tree would hide them; extending the path lets both live under one name.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
