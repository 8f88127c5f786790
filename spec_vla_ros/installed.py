"""Where the files are that ROS keeps in ``share/``: messages, configuration, models."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import spec_vla_ros

TABLETOP = "models/tabletop"  # the small model that comes with the package


def share_folders() -> list[Path]:
    """Where shared files may lie: the checkout, the installed wheel, and the share folder of a ROS installation."""
    module = Path(spec_vla_ros.__file__).parent
    places = [module.parent, module / "share"]
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        pass
    else:
        with contextlib.suppress(PackageNotFoundError):
            places.append(Path(get_package_share_directory("spec_vla_ros")))
    return places


def share_path(relative: str) -> Path:
    """``relative`` in one of :func:`share_folders`; raises ``FileNotFoundError`` that lists where it looked."""
    places = share_folders()
    for place in places:
        if os.path.exists(place / relative):  # which does not raise for a folder that may not be looked into
            return place / relative
    raise FileNotFoundError(f"{relative} is in none of: {', '.join(map(str, places))}")


def model_folder(model: str | Path = TABLETOP) -> Path:
    """``model`` where that is a folder, else the folder of that name in ``share/``.

    Raises ``FileNotFoundError`` that lists where it looked.
    """
    here = Path(os.path.expanduser(model))
    return here if os.path.isdir(here) else share_path(str(here))
