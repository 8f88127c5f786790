"""The one place that decides which rclpy a program gets.

``ensure_rclpy()`` is called before the first ``import rclpy``. Where the real rclpy is installed it does nothing. Where
it is not, a finder at the end of ``sys.meta_path`` answers ``rclpy`` and the message packages from this folder. It is
one or the other, never a mixture.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from typing import Any

# Module -> (module here, names). This is the whole supported surface; docs/embedded_ros.md lists it.
SURFACE: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "rclpy": [
        ("context", ("init", "shutdown", "try_shutdown", "ok", "get_default_context")),
        ("spinning", ("create_node", "get_global_executor", "spin", "spin_once", "spin_until_future_complete")),
    ],
    "rclpy.action": [("actions", ("ActionServer", "CancelResponse", "GoalResponse"))],
    "rclpy.callback_groups": [
        ("node", ("CallbackGroup", "MutuallyExclusiveCallbackGroup", "ReentrantCallbackGroup")),
    ],
    "rclpy.client": [("services", ("Client",))],
    "rclpy.clock": [("clock", ("Clock", "ClockType", "ROSClock"))],
    "rclpy.constants": [("spinning", ("S_TO_NS",))],
    "rclpy.context": [("context", ("Context",))],
    "rclpy.duration": [("clock", ("Duration",))],
    "rclpy.event_handler": [("event_handler", ("SubscriptionEventCallbacks",))],
    "rclpy.exceptions": [
        (
            "exceptions",
            (
                "InvalidHandle", "InvalidParameterException", "InvalidParameterTypeException",
                "InvalidParameterValueException", "InvalidTopicNameException", "NameValidationException",
                "NotInitializedException", "ParameterAlreadyDeclaredException", "ParameterException",
                "ParameterImmutableException", "ParameterNotDeclaredException", "ParameterUninitializedException",
                "ROSInterruptException",
            ),
        ),
    ],
    "rclpy.executors": [
        ("exceptions", ("ExternalShutdownException",)),
        ("executors", ("Executor", "MultiThreadedExecutor", "ShutdownException", "SingleThreadedExecutor",
                       "TimeoutException")),
    ],
    "rclpy.guard_condition": [("endpoints", ("GuardCondition",))],
    "rclpy.lifecycle": [
        ("lifecycle", ("LifecycleNode", "LifecyclePublisher", "LifecycleState", "Node", "Publisher", "State",
                       "TransitionCallbackReturn")),
    ],
    "rclpy.logging": [
        ("logging", ("LoggingSeverity", "get_logger", "get_logger_effective_level", "set_logger_level")),
    ],
    "rclpy.node": [("node", ("Node",))],
    "rclpy.parameter": [("parameter", ("Parameter", "parameter_value_to_python"))],
    "rclpy.parameter_client": [("parameter_client", ("AsyncParameterClient",))],
    "rclpy.publisher": [("endpoints", ("Publisher",))],
    "rclpy.qos": [
        (
            "qos",
            (
                "DurabilityPolicy", "HistoryPolicy", "LivelinessPolicy", "QoSDurabilityPolicy", "QoSHistoryPolicy",
                "QoSLivelinessPolicy", "QoSPresetProfiles", "QoSProfile", "QoSReliabilityPolicy", "ReliabilityPolicy",
                "qos_profile_parameter_events", "qos_profile_parameters", "qos_profile_sensor_data",
                "qos_profile_services_default", "qos_profile_system_default",
            ),
        ),
    ],
    "rclpy.serialization": [("spinning", ("deserialize_message", "serialize_message"))],
    "rclpy.service": [("services", ("Service",))],
    "rclpy.signals": [
        ("context", ("SignalHandlerOptions", "install_signal_handlers", "uninstall_signal_handlers")),
    ],
    "rclpy.subscription": [("endpoints", ("Subscription",))],
    "rclpy.task": [("task", ("Future",))],
    "rclpy.time": [("clock", ("Time",))],
    "rclpy.timer": [("endpoints", ("Timer",))],
    "tf2_ros": [
        ("tf2", ("Buffer", "ConnectivityException", "ExtrapolationException", "LookupException", "TransformException",
                 "TransformListener")),
    ],
}  # fmt: skip


def ensure_rclpy() -> str:
    """Name of the runtime: "rclpy" where ROS 2 is installed, else "embedded", for which ``import rclpy`` now works.

    A broken ROS 2 installation must not be papered over: if its environment is sourced but rclpy is not found, this
    raises ImportError.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return "embedded"
    if importlib.util.find_spec("rclpy") is not None:
        return "rclpy"
    if os.environ.get("AMENT_PREFIX_PATH"):
        raise ImportError(
            "a ROS 2 environment is sourced (AMENT_PREFIX_PATH is set) but rclpy cannot be imported by "
            f"{sys.executable}; use the Python of that ROS 2, or unset AMENT_PREFIX_PATH to use the embedded runtime"
        )
    missing = [name for name in ("cyclonedds", "rosbags") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"neither ROS 2 nor the embedded runtime's packages are installed (missing: {', '.join(missing)}); "
            "install ROS 2, or pip install 'spec_vla_ros[embedded]' (Linux x86-64 or macOS, Python 3.10-3.13)"
        )
    from .types import registry

    sys.meta_path.append(_Finder(registry().packages()))
    return "embedded"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes ``rclpy`` and the interface packages importable."""

    def __init__(self, packages: set[str]) -> None:
        self._packages = packages  # known beforehand: asking during an import would import again

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        top, _, rest = fullname.partition(".")
        if top in ("rclpy", "tf2_ros"):
            if fullname not in SURFACE:
                raise ModuleNotFoundError(
                    f"the embedded runtime of spec_vla_ros has no {fullname}; install ROS 2", name=fullname
                )
            return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname == top)
        if top not in self._packages or rest not in ("", "msg", "srv", "action"):
            return None
        if rest == "" and top == __name__.split(".", 1)[0]:
            return None  # our own package is a real one; only its generated part is ours to give
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        del spec
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if name in SURFACE:
            _fill_rclpy(module)
        elif "." in name:
            _fill_interfaces(module)


def _fill_rclpy(module: types.ModuleType) -> None:
    folder = __name__.rpartition(".")[0]
    for source, names in SURFACE[module.__name__]:
        origin = importlib.import_module(f"{folder}.{source}")
        for name in names:
            setattr(module, name, getattr(origin, name))

    def missing(name: str) -> Any:
        if f"{module.__name__}.{name}" in SURFACE:
            return importlib.import_module(f"{module.__name__}.{name}")
        if name.startswith("__"):
            raise AttributeError(name)
        # Not AttributeError: "from ... import ..." would replace its text by one that does not name the reason.
        raise ImportError(f"the embedded runtime of spec_vla_ros has no {module.__name__}.{name}; install ROS 2")

    module.__getattr__ = missing  # type: ignore[method-assign]


def _fill_interfaces(module: types.ModuleType) -> None:
    from .types import registry

    package, group = module.__name__.split(".")
    if group != "msg" and not registry().names(package, group):
        raise ModuleNotFoundError(f"the embedded runtime of spec_vla_ros has no {module.__name__}; install ROS 2")
    build = {"msg": registry().message, "srv": registry().service, "action": registry().action}[group]

    def lookup(name: str) -> Any:
        full = f"{package}/{group}/{name}"
        try:
            found = build(full)
        except KeyError:
            kind = AttributeError if name.startswith("_") else ImportError  # see _fill_rclpy
            raise kind(f"the embedded runtime of spec_vla_ros does not know {full}; install ROS 2") from None
        setattr(module, name, found)
        return found

    module.__getattr__ = lookup  # type: ignore[method-assign]
    module.__all__ = registry().names(package, group)  # type: ignore[attr-defined]
