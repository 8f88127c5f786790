"""Managed nodes: the states of design.ros2.org/articles/node_lifecycle and the services of lifecycle_msgs."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from spec_vla_ros.foreign_text import sentence, shortened

from .endpoints import Publisher as PlainPublisher
from .node import Node as PlainNode
from .qos import QoSProfile, as_profile
from .types import registry

UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = 1, 2, 3, 4
STATES = {0: "unknown", 1: "unconfigured", 2: "inactive", 3: "active", 4: "finalized", 10: "configuring",
          11: "cleaningup", 12: "shuttingdown", 13: "activating", 14: "deactivating", 15: "errorprocessing"
          }  # fmt: skip
ERROR_PROCESSING = 15


class _Transition(NamedTuple):
    id: int
    label: str
    start: int
    passing: int
    goal: int
    callback: str


_REQUESTS = [
    _Transition(1, "configure", 1, 10, 2, "on_configure"),
    _Transition(2, "cleanup", 2, 11, 1, "on_cleanup"),
    _Transition(3, "activate", 2, 13, 3, "on_activate"),
    _Transition(4, "deactivate", 3, 14, 2, "on_deactivate"),
    _Transition(5, "shutdown", 1, 12, 4, "on_shutdown"),
    _Transition(6, "shutdown", 2, 12, 4, "on_shutdown"),
    _Transition(7, "shutdown", 3, 12, 4, "on_shutdown"),
]


class TransitionCallbackReturn(IntEnum):
    """What a transition callback answers."""

    SUCCESS = 97
    FAILURE = 98
    ERROR = 99


class LifecycleState(NamedTuple):
    """A state's number and label."""

    state_id: int
    label: str


class LifecyclePublisher(PlainPublisher):
    """Sends only while its node is active; otherwise messages are dropped."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.is_activated = False

    def publish(self, message: Any) -> None:
        """Send, or drop silently while inactive."""
        if self.is_activated:
            super().publish(message)

    def on_activate(self, state: LifecycleState) -> None:
        """Start sending."""
        del state
        self.is_activated = True

    def on_deactivate(self, state: LifecycleState) -> None:
        """Stop sending."""
        del state
        self.is_activated = False


class LifecycleNode(PlainNode):
    """A node with managed states. Override the ``on_*`` callbacks and call ``super()`` in them."""

    def __init__(self, node_name: str, *, enable_communication_interface: bool = True, **kwargs: Any) -> None:
        self._ros_managed: list[LifecyclePublisher] = []
        self._ros_state = UNCONFIGURED
        super().__init__(node_name, **kwargs)
        self._ros_event_type = registry().message("lifecycle_msgs/msg/TransitionEvent")
        self._ros_state_type = registry().message("lifecycle_msgs/msg/State")
        self._ros_events_publisher = None
        if enable_communication_interface:
            self._ros_events_publisher = self.create_publisher(self._ros_event_type, "~/transition_event", 10)
            for name, handler in (
                ("ChangeState", self._ros_on_change_state),
                ("GetState", self._ros_on_get_state),
                ("GetAvailableStates", self._ros_on_get_available_states),
                ("GetAvailableTransitions", self._ros_on_get_available_transitions),
            ):
                topic = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
                self.create_service(registry().service(f"lifecycle_msgs/srv/{name}"), f"~/{topic}", handler)
            graph = registry().service("lifecycle_msgs/srv/GetAvailableTransitions")
            self.create_service(graph, "~/get_transition_graph", self._ros_on_get_transition_graph)

    # Callbacks to override

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unconfigured -> inactive."""
        del state
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive -> unconfigured."""
        del state
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive -> active; activates the lifecycle publishers."""
        for publisher in self._ros_managed:
            publisher.on_activate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Active -> inactive; deactivates the lifecycle publishers."""
        for publisher in self._ros_managed:
            publisher.on_deactivate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Any -> finalized."""
        del state
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an error; SUCCESS leads to unconfigured, anything else to finalized."""
        del state
        return TransitionCallbackReturn.FAILURE

    # Transitions

    def trigger_configure(self) -> TransitionCallbackReturn:
        """Run the transition; RuntimeError if the present state does not allow it."""
        return self._ros_trigger("configure")

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        """Run the transition."""
        return self._ros_trigger("cleanup")

    def trigger_activate(self) -> TransitionCallbackReturn:
        """Run the transition."""
        return self._ros_trigger("activate")

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        """Run the transition."""
        return self._ros_trigger("deactivate")

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """Run the transition."""
        return self._ros_trigger("shutdown")

    def _ros_trigger(self, label: str) -> TransitionCallbackReturn:
        transition = self._ros_find(0, label)
        if transition is None:
            raise RuntimeError(f"transition '{label}' is not possible in state '{STATES[self._ros_state]}'")
        return self._ros_change(transition)

    def _ros_find(self, number: int, label: str) -> _Transition | None:
        for transition in _REQUESTS:
            wanted = transition.label == label if label else transition.id == number
            if wanted and transition.start == self._ros_state:
                return transition
        return None

    def _ros_change(self, transition: _Transition) -> TransitionCallbackReturn:
        previous = LifecycleState(self._ros_state, STATES[self._ros_state])
        self._ros_enter(transition.passing)
        result = self._ros_run(transition.callback, previous)
        if result == TransitionCallbackReturn.SUCCESS or (
            result == TransitionCallbackReturn.FAILURE and transition.label == "shutdown"
        ):
            self._ros_enter(transition.goal)
        elif result == TransitionCallbackReturn.FAILURE:
            self._ros_enter(transition.start)
        else:
            passing = LifecycleState(self._ros_state, STATES[self._ros_state])
            self._ros_enter(ERROR_PROCESSING)
            recovered = self._ros_run("on_error", passing) == TransitionCallbackReturn.SUCCESS
            self._ros_enter(UNCONFIGURED if recovered else FINALIZED)
        return result

    def _ros_run(self, callback: str, previous: LifecycleState) -> TransitionCallbackReturn:
        try:
            return TransitionCallbackReturn(getattr(self, callback)(previous))
        except Exception as error:  # noqa: BLE001  an exception is an error of the transition, not of the executor
            self.get_logger().error(f"{callback} raised {type(error).__name__}: {sentence(error)}")
            return TransitionCallbackReturn.ERROR

    def _ros_enter(self, state: int) -> None:
        before, self._ros_state = self._ros_state, state
        if self._ros_events_publisher is not None and not self._ros_events_publisher.destroyed and self.context.ok():
            event = self._ros_event_type(
                start_state=self._ros_as_message(before), goal_state=self._ros_as_message(state)
            )
            self._ros_events_publisher.publish(event)

    # Publishers and services

    def create_lifecycle_publisher(
        self, msg_type: Any, topic: str, qos_profile: QoSProfile | int, *, callback_group: Any = None
    ) -> LifecyclePublisher:
        """A publisher that is silent unless the node is active."""
        del callback_group
        publisher = LifecyclePublisher(self, msg_type, self.resolve_topic_name(topic), as_profile(qos_profile))
        self._ros_managed.append(publisher)
        publisher.is_activated = self._ros_state == ACTIVE
        return self._ros_register(self._ros_publishers, publisher)

    def destroy_lifecycle_publisher(self, publisher: LifecyclePublisher) -> bool:
        """True if it was this node's."""
        return self.destroy_publisher(publisher)

    def destroy_publisher(self, publisher: PlainPublisher) -> bool:
        """True if it was this node's."""
        self._ros_managed = [p for p in self._ros_managed if p is not publisher]
        return super().destroy_publisher(publisher)

    def _ros_as_message(self, state: int) -> Any:
        return self._ros_state_type(id=state, label=STATES[state])

    def _ros_on_change_state(self, request: Any, response: Any) -> Any:
        transition = self._ros_find(request.transition.id, request.transition.label)
        if transition is None:
            wanted = shortened(request.transition.label or request.transition.id)
            self.get_logger().warning(f"transition {wanted} is not possible in state '{STATES[self._ros_state]}'")
            response.success = False
        else:
            response.success = self._ros_change(transition) == TransitionCallbackReturn.SUCCESS
        return response

    def _ros_on_get_state(self, request: Any, response: Any) -> Any:
        del request
        response.current_state = self._ros_as_message(self._ros_state)
        return response

    def _ros_on_get_available_states(self, request: Any, response: Any) -> Any:
        del request
        response.available_states = [self._ros_as_message(state) for state in STATES]
        return response

    def _ros_describe(self, number: int, label: str, start: int, goal: int) -> Any:
        transition = registry().message("lifecycle_msgs/msg/Transition")(id=number, label=label)
        description = registry().message("lifecycle_msgs/msg/TransitionDescription")
        states = {"start_state": self._ros_as_message(start), "goal_state": self._ros_as_message(goal)}
        return description(transition=transition, **states)

    def _ros_on_get_available_transitions(self, request: Any, response: Any) -> Any:
        del request
        response.available_transitions = [
            self._ros_describe(t.id, t.label, t.start, t.passing) for t in _REQUESTS if t.start == self._ros_state
        ]
        return response

    def _ros_on_get_transition_graph(self, request: Any, response: Any) -> Any:
        del request
        rows = [self._ros_describe(t.id, t.label, t.start, t.passing) for t in _REQUESTS]
        done: dict[int, _Transition] = {t.passing: t for t in _REQUESTS}
        for passing, t in done.items():
            base = passing * 10 if passing != 12 else 50
            failure = FINALIZED if t.label == "shutdown" else t.start
            rows.append(self._ros_describe(base, "transition_success", passing, t.goal))
            rows.append(self._ros_describe(base + 1, "transition_failure", passing, failure))
            rows.append(self._ros_describe(base + 2, "transition_error", passing, ERROR_PROCESSING))
        rows.append(self._ros_describe(60, "transition_success", ERROR_PROCESSING, UNCONFIGURED))
        rows.append(self._ros_describe(61, "transition_failure", ERROR_PROCESSING, FINALIZED))
        rows.append(self._ros_describe(62, "transition_error", ERROR_PROCESSING, FINALIZED))
        response.available_transitions = rows
        return response


Node, Publisher, State = LifecycleNode, LifecyclePublisher, LifecycleState
