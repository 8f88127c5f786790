"""Installation with pip, for machines without ROS 2 and for development.

colcon does not read this file: package.xml says ament_cmake, because only that build type can generate the messages in
``msg/`` and the Python module of the same name in one package. What colcon installs stands in CMakeLists.txt.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What ROS keeps in share/, a wheel keeps inside the module.
SHARED = ("action", "msg", "srv", "config", "launch", "models")


class BuildWithShare(build_py):
    """Copy the shared files to ``spec_vla_ros/share/`` of the wheel; an editable install reads them in place."""

    def run(self):
        """Build the modules, then add the shared files."""
        super().run()
        if not self.editable_mode:
            for name in SHARED:
                if (ROOT / name).is_dir():
                    target = Path(self.build_lib, "spec_vla_ros", "share", name)
                    shutil.copytree(ROOT / name, target, dirs_exist_ok=True)


def version():
    """The version stands in ``spec_vla_ros/__init__.py``; package.xml and the changelog are tested against it."""
    text = (ROOT / "spec_vla_ros" / "__init__.py").read_text()
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


setup(
    name="spec_vla_ros",
    version=version(),
    description="OpenVLA with speculative decoding and relaxed acceptance, as a ROS 2 package",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["spec_vla_ros", "spec_vla_ros.*"]),
    include_package_data=False,
    package_data={"": ["*.srv", "*.msg", "*.xml", "*.json", "*.txt", "*.js", "*.css"]},
    cmdclass={"build_py": BuildWithShare},
    install_requires=["numpy", "pillow", "PyYAML"],
    extras_require={
        "model": ["torch", "tokenizers", "safetensors", "huggingface_hub"],
        "embedded": ["cyclonedds>=11,<12", "rosbags>=0.11.9,<0.12"],
        "image": ["opencv-python-headless"],
        "sim": ["mujoco"],
        "bags": ["rosbags>=0.11.9,<0.12", "mcap"],
        "replay": ["rosbags>=0.11.9,<0.12", "mcap", "plotly", "opencv-python-headless"],
        "demo": ["mujoco", "matplotlib", "opencv-python-headless"],
        # What LIBERO's environments need of the many things that their packages declare; those packages themselves come
        # with --no-deps. In a virtual environment of its own, because of mujoco: docs/libero.md.
        "libero": [
            *("mujoco<3.9", "matplotlib", "opencv-python-headless", "easydict", "cloudpickle", "gymnasium", "future"),
            *("termcolor", "tqdm", "scipy", "numba"),
        ],
        "train": ["rosbags>=0.11.9,<0.12", "mcap", "opencv-python-headless", "pyarrow", "av"],
        "test": ["pytest", "pytest-xdist", "ruff", "vermin", "transformers", "pyarrow", "av", "playwright"],
    },
    entry_points={"console_scripts": ["spec-vla = spec_vla_ros.cli:main"]},
)
