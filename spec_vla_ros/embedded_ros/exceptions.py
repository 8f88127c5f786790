"""The exceptions of ``rclpy.exceptions`` that the embedded runtime raises."""

from __future__ import annotations

from typing import Any


class NotInitializedException(Exception):
    """``rclpy.init()`` has not been called, or the context has been shut down."""


class ROSInterruptException(Exception):
    """The context was shut down while waiting."""


class ExternalShutdownException(Exception):
    """The context was shut down by somebody else while spinning."""


class InvalidHandle(Exception):
    """The entity was destroyed."""


class NameValidationException(Exception):
    """A node, topic or namespace name is not valid."""

    def __init__(self, name_type: str, name: str, error_msg: str, invalid_index: int = 0) -> None:
        super().__init__(f"Invalid {name_type}: {error_msg}: '{name}' at {invalid_index}")


class InvalidTopicNameException(NameValidationException):
    """A topic name is not valid."""

    def __init__(self, name: str, error_msg: str = "topic name", invalid_index: int = 0) -> None:
        super().__init__("topic name", name, error_msg, invalid_index)


class ParameterException(Exception):
    """Base of the parameter errors; ``args`` starts with the parameter's name(s)."""

    def __init__(self, error_msg: str, parameters: Any, *args: Any) -> None:
        super().__init__(error_msg, parameters, *args)
        self.parameters = parameters

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.parameters}"


class ParameterNotDeclaredException(ParameterException):
    """The parameter was never declared."""

    def __init__(self, parameters: Any, *args: Any) -> None:
        super().__init__("Parameter(s) not declared", parameters, *args)


class ParameterAlreadyDeclaredException(ParameterException):
    """The parameter is declared already."""

    def __init__(self, parameters: Any, *args: Any) -> None:
        super().__init__("Parameter(s) already declared", parameters, *args)


class ParameterUninitializedException(ParameterException):
    """The parameter is declared but has no value."""

    def __init__(self, parameters: Any, *args: Any) -> None:
        super().__init__("The parameter is not initialized", parameters, *args)


class InvalidParameterException(ParameterException):
    """The parameter's name is not valid."""

    def __init__(self, parameter_name: str) -> None:
        super().__init__("Invalid parameter name", parameter_name)


class InvalidParameterTypeException(ParameterException):
    """The value has another type than the parameter."""

    def __init__(self, desired: Any, expected: Any) -> None:
        name = getattr(desired, "name", desired)
        super().__init__(f"Trying to set parameter '{name}' to a value of the wrong type, expecting '{expected}'", name)


class InvalidParameterValueException(ParameterException):
    """The value was refused (range, read-only or a callback)."""

    def __init__(self, parameter: Any, value: Any, reason: str) -> None:
        text = f"Invalid parameter value ({value}) for parameter"
        super().__init__(text if not reason else f"{text}. Reason: {reason}", parameter, value, reason)


class ParameterImmutableException(ParameterException):
    """The parameter is read-only."""

    def __init__(self, parameter: Any) -> None:
        super().__init__("Attempted to modify read-only parameter", parameter)
