"""``--ros-args``: parameters, remaps, parameter files, log level. Rules and scalars follow rcl, not a YAML library."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_TRUE = {s for w in ("y", "yes", "true", "on") for s in (w, w.capitalize(), w.upper())}
_FALSE = {s for w in ("n", "no", "false", "off") for s in (w, w.capitalize(), w.upper())}
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")
_FLOAT = re.compile(
    r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|\.?inf|\.?Inf|\.?INF)\Z|\.?nan\Z|\.?NaN\Z|\.?NAN\Z"
)
LOG_LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "fatal": 50}


class RosArgsError(ValueError):
    """The ROS arguments cannot be understood; the text says which one."""


@dataclass
class RosArgs:
    """Parsed arguments. ``remaps``: (node prefix, from, to); ``parameters``: (node pattern, {name: value})."""

    remaps: list[tuple[str, str, str]] = field(default_factory=list)
    parameters: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    log_level: int | None = None
    remaining: list[str] = field(default_factory=list)
    process: RosArgs | None = None  # the process's arguments, under a node's own

    def node_name(self, default: str) -> str:
        """The node's name after ``__node:=``."""
        return self._special(("__node", "__name"), default, default)

    def namespace(self, default: str, node_name: str = "") -> str:
        """The namespace after ``__ns:=``, always with a leading slash."""
        return self._special(("__ns",), default, node_name)

    def _special(self, keys: tuple[str, ...], default: str, node_name: str) -> str:
        for prefix, source, target in self.remaps:
            if source in keys and prefix in ("", node_name):
                return target
        return default

    def overrides_for(self, full_name: str) -> dict[str, Any]:
        """Parameter overrides of the node "/ns/name".

        Later values of one pattern beat earlier ones, and the patterns apply in the order in which each of them was
        first seen: what rcl does, whose ``-p`` (pattern ``/**``) before a file that names the node therefore loses.
        """
        found = {} if self.process is None else self.process.overrides_for(full_name)
        by_pattern: dict[str, dict[str, Any]] = {}
        for pattern, values in self.parameters:
            by_pattern.setdefault(pattern, {}).update(values)
        for pattern, values in by_pattern.items():
            if matches(pattern, full_name):
                found.update(values)
        return found

    def merged_over(self, process: RosArgs) -> RosArgs:
        """These (a node's own) arguments before the process's."""
        return RosArgs(
            self.remaps + process.remaps,
            self.parameters,
            self.log_level if self.log_level is not None else process.log_level,
            self.remaining,
            process,
        )

    def resolve(self, name: str, node_name: str, namespace: str, *, remap: bool = True) -> str:
        """The full name that ``name`` stands for, remapped by the first rule that fits; rules are not chained."""
        full = expand(name, node_name, namespace)
        if remap:
            for prefix, source, target in self.remaps:
                if source.startswith("__") or prefix not in ("", node_name):
                    continue
                if expand(source, node_name, namespace) == full:
                    return expand(target, node_name, namespace)
        return full


def expand(name: str, node_name: str, namespace: str) -> str:
    """Expand ``~``, ``{node}``, ``{ns}`` and relative names to a full name."""
    full = f"{namespace.rstrip('/')}/{node_name}"
    name = name.replace("{node}", node_name).replace("{ns}", namespace).replace("{namespace}", namespace)
    if name == "~":
        return full
    if name.startswith("~/"):
        return f"{full}/{name[2:]}"
    return name if name.startswith("/") else f"{namespace.rstrip('/')}/{name}"


def matches(pattern: str, full_name: str) -> bool:
    """Whether a section of a parameter file is for the node "/ns/name"."""
    pattern = pattern if pattern.startswith("/") else f"/{pattern}"
    parts, names = pattern.strip("/").split("/"), full_name.strip("/").split("/")

    def match(i: int, j: int) -> bool:
        if i == len(parts):
            return j == len(names)
        if parts[i] == "**":
            return any(match(i + 1, k) for k in range(j, len(names) + 1))
        return j < len(names) and parts[i] in ("*", names[j]) and match(i + 1, j + 1)

    return match(0, 0)


def parse_ros_args(argv: list[str]) -> RosArgs:
    """Split ``argv`` into ROS arguments and the rest. RosArgsError names what is wrong."""
    result, inside, i = RosArgs(), False, 0
    while i < len(argv):
        word = argv[i]
        i += 1
        if not inside:
            inside = word == "--ros-args"
            if not inside:
                result.remaining.append(word)
            continue
        if word == "--":
            inside = False
        elif word in ("--ros-args", "--disable-rosout-logs", "--enable-rosout-logs", "--disable-stdout-logs",
                      "--disable-external-lib-logs", "--enable-stdout-logs", "--enable-external-lib-logs"):  # fmt: skip
            continue
        else:
            if i >= len(argv):
                raise RosArgsError(f"{word} needs a value")
            _option(result, word, argv[i])
            i += 1
    return result


def _option(result: RosArgs, flag: str, value: str) -> None:
    if flag in ("-p", "--param"):
        source, target = _assignment(flag, value)
        prefix, name = _split_prefix(source)
        result.parameters.append((f"/{prefix.lstrip('/')}" if prefix else "/**", {name: parse_value(target)}))
    elif flag in ("-r", "--remap"):
        source, target = _assignment(flag, value)
        prefix, name = _split_prefix(source)
        result.remaps.append((prefix, name, target))
    elif flag == "--params-file":
        result.parameters.extend(read_params_file(Path(value)))
    elif flag == "--log-level":
        level = value.rsplit(":=", 1)[-1].lower()
        if level not in LOG_LEVELS:
            raise RosArgsError(f"--log-level {value}: expected one of {', '.join(LOG_LEVELS)}")
        result.log_level = LOG_LEVELS[level]
    elif flag in ("-e", "--enclave", "--log-config-file", "--log-file-name"):
        return
    else:
        raise RosArgsError(f"unknown ROS argument {flag}")


def _assignment(flag: str, text: str) -> tuple[str, str]:
    source, sign, target = text.partition(":=")
    if not sign or not source:
        raise RosArgsError(f"{flag} {text}: expected name:=value")
    return source, target


def _split_prefix(source: str) -> tuple[str, str]:
    prefix, colon, name = source.rpartition(":")
    if colon and not re.fullmatch(r"[A-Za-z_]\w*", prefix):
        raise RosArgsError(f"{source}: the prefix is a bare node name, without namespace or wildcards")
    return (prefix, name) if colon else ("", source)


def read_params_file(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(node pattern, values) pairs of a parameter file, in file order. RosArgsError if it has another form."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RosArgsError(f"parameter file {path}: {error}") from error
    found: list[tuple[str, dict[str, Any]]] = []
    if root is not None:
        _walk(root, "", found, path)
    return found


def _walk(node: yaml.Node, pattern: str, found: list[tuple[str, dict[str, Any]]], path: Path) -> None:
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise RosArgsError(f"parameter file {path}: expected '<node>: ros__parameters: ...' in line {line}")
    for key, value in node.value:
        if key.value == "ros__parameters":
            if not isinstance(value, yaml.MappingNode):
                raise RosArgsError(f"parameter file {path}: ros__parameters is not a map")
            values: dict[str, Any] = {}
            _flatten(value, "", values)
            found.append((pattern or "/**", values))
        else:
            _walk(value, f"{pattern.rstrip('/')}/{key.value.strip('/')}", found, path)


def _flatten(node: yaml.MappingNode, prefix: str, values: dict[str, Any]) -> None:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode):
            _flatten(value, f"{name}.", values)
        else:
            values[name] = _convert(value)


def parse_value(text: str) -> Any:
    """The value of ``-p name:=text``."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RosArgsError(f"value {text!r}: {error}") from error
    if node is None:
        return ""
    if isinstance(node, yaml.MappingNode):
        raise RosArgsError(f"value {text!r}: a map is no parameter value")
    return _convert(node)


def _convert(node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        items = [_convert(item) for item in node.value]
        if len({type(item) for item in items}) > 1:
            raise RosArgsError(f"a sequence must have elements of one type: {items}")
        return items
    if node.style in ("'", '"', "|", ">"):
        return node.value
    return scalar(node.value)


def scalar(text: str) -> Any:
    """An unquoted scalar as rcl reads it."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INTEGER.match(text):
        sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
        if digits.lower().startswith("0x"):
            return sign * int(digits, 16)
        return sign * (int(digits, 8) if len(digits) > 1 and digits[0] == "0" else int(digits))
    if _FLOAT.match(text):
        return float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").replace(".nan", "nan")
                     .replace(".NaN", "nan").replace(".NAN", "nan"))  # fmt: skip
    return text
