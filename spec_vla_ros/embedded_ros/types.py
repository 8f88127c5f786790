"""Message, service and action types by name: from ``rosbags``, from our own files, services from texts."""

from __future__ import annotations

import functools
import re
import threading
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from .interfaces import DEFAULTS, MESSAGES, OF_AN_ACTION, SERVICES
from .messages import FieldType, Message, make_message_class

OWN_PACKAGE = "spec_vla_ros"
_EMPTY_MEMBER = "structure_needs_at_least_one_member"
_BASE, _NAME, _ARRAY = 1, 2, 3


class ServiceType:
    """What ``pkg.srv.Name`` is: a class with ``Request`` and ``Response``."""

    FULL_NAME = ""
    Request: type[Message]
    Response: type[Message]


class ActionType:
    """What ``pkg.action.Name`` is. ``Impl`` holds what travels: the types of services and messages of an action."""

    FULL_NAME = ""
    Goal: type[Message]
    Result: type[Message]
    Feedback: type[Message]
    Impl: Any


def _own_files(kind: str) -> list[Path]:
    package = Path(__file__).resolve().parents[1]
    # Installed, the parent is site-packages, where a folder "msg" would be somebody else's; so our own place first.
    folder = next((p for p in (package / "share" / kind, package.parent / kind) if p.is_dir()), None)
    return sorted(folder.glob(f"*.{kind}")) if folder else []


def _action_types(name: str, text: str) -> dict[str, Any]:
    """Definitions of all types of the action "pkg/action/Name"."""
    parts = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    texts = dict(zip(("Goal", "Result", "Feedback"), parts, strict=True))
    texts |= {suffix: form.format(name) for suffix, form in OF_AN_ACTION.items()}
    found: dict[str, Any] = {}
    for suffix, part in texts.items():
        found |= get_types_from_msg(part, f"{name}_{suffix}")
    return found


class Registry:
    """Types are built once, when first asked for."""

    def __init__(self) -> None:
        self.store = get_typestore(Stores.ROS2_JAZZY)
        self._lock = threading.RLock()
        self._messages: dict[str, type[Message]] = {}
        self._services: dict[str, type[ServiceType]] = {}
        self._actions: dict[str, type[ActionType]] = {}
        self._defaults: dict[str, dict[str, Any]] = dict(DEFAULTS)
        new: dict[str, Any] = {}
        for path in _own_files("action"):
            new |= _action_types(f"{OWN_PACKAGE}/action/{path.stem}", path.read_text(encoding="utf-8"))
        for path in _own_files("msg"):
            name, text = f"{OWN_PACKAGE}/msg/{path.stem}", path.read_text(encoding="utf-8")
            new |= get_types_from_msg(text, name)
            self._defaults[name] = parse_defaults(text)
        for name, text in MESSAGES.items():
            new |= get_types_from_msg(text, name)
        for name, text in SERVICES.items():
            package, _, short = name.split("/")
            request, response = re.split(r"^---$", text, maxsplit=1, flags=re.MULTILINE)
            for half, suffix in ((request, "Request"), (response, "Response")):
                # Siblings without a package resolve to msg/, so parse under msg/ and rename.
                parsed = get_types_from_msg(half, f"{package}/msg/{short}_{suffix}")
                new[f"{package}/srv/{short}_{suffix}"] = parsed[f"{package}/msg/{short}_{suffix}"]
        self.store.register({k: v for k, v in new.items() if k not in self.store.fielddefs})
        # ROS 2 reads "char" as uint8; the store hashes it as char. Decoding is the same, the type hash is not.
        for name, (constants, fields) in list(self.store.fielddefs.items()):
            self.store.fielddefs[name] = (constants, [(field, _char_to_uint8(kind)) for field, kind in fields])

    def packages(self) -> set[str]:
        """Packages that have at least one message, service or action."""
        return {name.split("/", 1)[0] for name in self.store.fielddefs}

    def names(self, package: str, group: str) -> list[str]:
        """Short names of the messages (group "msg"), services ("srv") or actions ("action") of a package."""
        prefix = f"{package}/{group}/"
        found = {n[len(prefix) :] for n in self.store.fielddefs if n.startswith(prefix)}
        if last := {"srv": "_Request", "action": "_Goal"}.get(group):
            found = {n.removesuffix(last) for n in found if n.endswith(last)}
        return sorted(found)

    def message(self, name: str) -> type[Message]:
        """Class of "pkg/msg/Name" (or a service half). KeyError if unknown."""
        with self._lock:
            if name not in self._messages:
                constants, fields = self.store.fielddefs[name]
                kinds = {f: self._field(node) for f, node in fields if f != _EMPTY_MEMBER}
                values = {c: bytes([v]) if kind == "byte" else v for c, kind, v in constants}
                self._messages[name] = make_message_class(name, kinds, values, self._defaults.get(name, {}))
            return self._messages[name]

    def service(self, name: str) -> type[ServiceType]:
        """Class of "pkg/srv/Name" with Request and Response. KeyError if unknown."""
        with self._lock:
            if name not in self._services:
                halves = {h: self.message(f"{name}_{h}") for h in ("Request", "Response")}
                self._services[name] = type(name.rsplit("/", 1)[1], (ServiceType,), {"FULL_NAME": name, **halves})
            return self._services[name]

    def action(self, name: str) -> type[ActionType]:
        """Class of "pkg/action/Name" with Goal, Result, Feedback and Impl. KeyError if unknown."""
        with self._lock:
            if name not in self._actions:
                parts = {part: self.message(f"{name}_{part}") for part in ("Goal", "Result", "Feedback")}
                impl = {
                    "SendGoalService": self.service(f"{name}_SendGoal"),
                    "GetResultService": self.service(f"{name}_GetResult"),
                    "FeedbackMessage": self.message(f"{name}_FeedbackMessage"),
                    "CancelGoalService": self.service("action_msgs/srv/CancelGoal"),
                    "GoalStatusMessage": self.message("action_msgs/msg/GoalStatusArray"),
                }
                short = name.rsplit("/", 1)[1]
                parts |= {"FULL_NAME": name, "Impl": type(f"{short}_Impl", (), impl)}
                self._actions[name] = type(short, (ActionType,), parts)
            return self._actions[name]

    @functools.cache  # noqa: B019  one registry lives as long as the process
    def type_hash(self, name: str) -> str:
        """RIHS01 hash as announced in discovery."""
        return self.store.hash_rihs01(name)

    def _field(self, node: Any) -> FieldType:
        kind, detail = int(node[0]), node[1]
        if kind == _BASE:
            base, bound = detail
            if base == "wstring":
                raise NotImplementedError("the embedded runtime has no wstring; install ROS 2")
            return FieldType(base, text_bound=bound)
        if kind == _NAME:
            field = FieldType(detail)
            field.nested = self.message(detail)
            return field
        inner = self._field(detail[0])
        field = FieldType(inner.base, "array" if kind == _ARRAY else "sequence", detail[1], inner.text_bound)
        field.nested = inner.nested
        return field


def _char_to_uint8(node: Any) -> Any:
    kind, detail = node
    if int(kind) == _BASE:
        return (kind, ("uint8", detail[1])) if detail[0] == "char" else node
    return node if int(kind) == _NAME else (kind, (_char_to_uint8(detail[0]), detail[1]))


def parse_defaults(text: str) -> dict[str, Any]:
    """Default values of a .msg text: lines "type name default" (constants have "=" and are none of them)."""
    defaults: dict[str, Any] = {}
    for line in text.splitlines():
        parts = line.split("#", 1)[0].split(None, 2)
        if len(parts) < 3 or "=" in parts[1] or parts[2].lstrip().startswith("="):
            continue
        base, name, value = parts[0], parts[1], parts[2].strip()
        if base == "string":
            defaults[name] = value.strip("\"'")
        elif base == "bool":
            defaults[name] = value.lower() in ("true", "1")
        elif base.startswith("float"):
            defaults[name] = float(value)
        else:
            defaults[name] = int(value, 0)
    return defaults


@functools.cache
def registry() -> Registry:
    """The process's registry."""
    return Registry()
