"""``rclpy.node.Node`` over the embedded wire."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from spec_vla_ros.foreign_text import sentence

from . import logging as log
from .args import parse_ros_args
from .clock import Clock, ROSClock
from .context import Context, get_default_context
from .endpoints import GuardCondition, Publisher, Subscription, Timer
from .event_handler import SubscriptionEventCallbacks
from .exceptions import InvalidTopicNameException, NameValidationException, NotInitializedException
from .parameters import ParameterMixin
from .qos import QoSProfile, as_profile, clock_profile, qos_profile_services_default, rosout_profile
from .services import Client, Service
from .types import registry

_LONGEST_TYPE = 255  # characters of a type's name
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_REQUEST = re.compile(r"rq(/.+)Request")
_TOPIC = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+\Z")


class CallbackGroup:
    """Callbacks of one group; ``reentrant`` ones may overlap."""

    reentrant = False


class MutuallyExclusiveCallbackGroup(CallbackGroup):
    """One at a time."""


class ReentrantCallbackGroup(CallbackGroup):
    """Any number at a time."""

    reentrant = True


class EndpointInfo:
    """One entry of ``get_publishers_info_by_topic``."""

    def __init__(self, owner: tuple[str, str], topic_type: str, gid: bytes, qos_profile: QoSProfile) -> None:
        """``owner``: name and namespace of the node. ``qos_profile``: all that discovery tells."""
        (self.node_name, self.node_namespace), self.topic_type = owner, topic_type
        self.endpoint_gid, self.qos_profile = list(gid), qos_profile


class Node(ParameterMixin):
    """Publishers, subscriptions, services, clients, timers and parameters under one name."""

    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        cli_args: list[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        enable_rosout: bool = True,
        start_parameter_services: bool | None = None,
        parameter_overrides: Sequence[Any] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
    ) -> None:
        self.context = context or get_default_context()
        if not self.context.ok():
            raise NotInitializedException("rclpy.init() has not been called")
        self.executor: Any = None
        self._ros_publishers: list[Publisher] = []
        self._ros_subscriptions: list[Subscription] = []
        self._ros_services: list[Service] = []
        self._ros_clients: list[Client] = []
        self._ros_timers: list[Timer] = []
        self._ros_guards: list[GuardCondition] = []
        self._ros_destroyed = False
        self.default_callback_group = MutuallyExclusiveCallbackGroup()
        own = parse_ros_args(["--ros-args", *cli_args] if cli_args and "--ros-args" not in cli_args else cli_args or [])
        self._ros_args = own.merged_over(self.context.args) if use_global_arguments else own
        if self._ros_args.log_level is not None:
            log.set_default_level(self._ros_args.log_level)

        self._ros_name = self._ros_args.node_name(node_name)
        space = self._ros_args.namespace(namespace or "/", node_name)
        self._ros_namespace = f"/{space.strip('/')}"
        if not _NAME.match(self._ros_name):
            raise NameValidationException("node name", self._ros_name, "must be alphanumeric, underscores allowed")
        if self._ros_namespace != "/" and not _TOPIC.match(self._ros_namespace):
            raise NameValidationException("namespace", self._ros_namespace, "must be a valid absolute name")

        self._ros_clock = ROSClock()
        self._ros_logger = log.RcutilsLogger(self.get_fully_qualified_name().strip("/").replace("/", "."))
        self.context.graph.add_node(self._ros_namespace, self._ros_name)
        self.context.nodes.append(weakref.ref(self))
        if enable_rosout:
            self._ros_start_rosout()
        overrides = self._ros_args.overrides_for(self.get_fully_qualified_name())
        overrides |= {p.name: p.value for p in parameter_overrides or ()}
        self._ros_init_parameters(
            overrides,
            start_services=start_parameter_services is not False,
            allow_undeclared=allow_undeclared_parameters,
            declare_overrides=automatically_declare_parameters_from_overrides,
        )

    @property
    def services(self) -> Iterator[Service]:
        """The services of this node."""
        yield from list(self._ros_services)

    # Names

    def get_name(self) -> str:
        """Name without namespace."""
        return self._ros_name

    def get_namespace(self) -> str:
        """Namespace with leading slash."""
        return self._ros_namespace

    def get_fully_qualified_name(self) -> str:
        """Namespace and name, "/ns/name"."""
        return f"{self._ros_namespace.rstrip('/')}/{self._ros_name}"

    def get_logger(self) -> log.RcutilsLogger:
        """The node's logger."""
        return self._ros_logger

    def get_clock(self) -> Clock:
        """The node's ROS clock."""
        return self._ros_clock

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """Full name after expansion and remapping."""
        full = self._ros_args.resolve(topic, self._ros_name, self._ros_namespace, remap=not only_expand)
        if not _TOPIC.match(full):
            raise InvalidTopicNameException(full)
        return full

    resolve_service_name = resolve_topic_name

    # Creating

    def create_publisher(
        self, msg_type: Any, topic: str, qos_profile: QoSProfile | int, *, callback_group: Any = None
    ) -> Publisher:
        """A publisher of ``msg_type`` on ``topic``."""
        del callback_group
        entity = Publisher(self, msg_type, self.resolve_topic_name(topic), as_profile(qos_profile))
        return self._ros_register(self._ros_publishers, entity)

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        qos_profile: QoSProfile | int,
        *,
        callback_group: Any = None,
        event_callbacks: SubscriptionEventCallbacks | None = None,
        raw: bool = False,
    ) -> Subscription:
        """Call ``callback`` with every message (or its CDR bytes if ``raw``)."""
        name = self.resolve_topic_name(topic)
        events = event_callbacks or SubscriptionEventCallbacks()
        entity = Subscription(self, msg_type, name, callback, as_profile(qos_profile), callback_group, raw, events)
        return self._ros_register(self._ros_subscriptions, entity)

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: Any = None,
    ) -> Service:
        """Answer requests with ``callback(request, response)``."""
        return self._ros_serve(Service, srv_type, srv_name, callback, qos_profile, callback_group)

    def create_client(
        self,
        srv_type: Any,
        srv_name: str,
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: Any = None,
    ) -> Client:
        """A client of the service ``srv_name``."""
        name = self.resolve_service_name(srv_name)
        return self._ros_register(self._ros_clients, Client(self, srv_type, name, qos_profile, callback_group))

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[[], None],
        callback_group: Any = None,
        clock: Clock | None = None,
        autostart: bool = True,
    ) -> Timer:
        """Call ``callback`` every ``timer_period_sec`` seconds of ``clock`` (default: the node's)."""
        timer = Timer(self, float(timer_period_sec), callback, clock or self._ros_clock, callback_group, autostart)
        self._ros_timers.append(timer)
        self.wake()
        return timer

    def create_guard_condition(self, callback: Callable[[], None], callback_group: Any = None) -> GuardCondition:
        """A condition that other threads trigger."""
        guard = GuardCondition(self, callback, callback_group)
        self._ros_guards.append(guard)
        return guard

    def create_rate(self, *args: Any, **kwargs: Any) -> Any:
        """Not available."""
        raise NotImplementedError("the embedded runtime has no Rate; use a timer, or install ROS 2")

    # Destroying

    def destroy_publisher(self, publisher: Publisher) -> bool:
        """True if it was this node's."""
        return self._ros_release(self._ros_publishers, publisher)

    def destroy_subscription(self, subscription: Subscription) -> bool:
        """True if it was this node's."""
        return self._ros_release(self._ros_subscriptions, subscription)

    def destroy_service(self, service: Service) -> bool:
        """True if it was this node's."""
        return self._ros_release(self._ros_services, service)

    def destroy_client(self, client: Client) -> bool:
        """True if it was this node's."""
        return self._ros_release(self._ros_clients, client)

    def destroy_timer(self, timer: Timer) -> bool:
        """True if it was this node's."""
        return self._ros_release(self._ros_timers, timer)

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        """True if it was this node's."""
        return self._ros_release(self._ros_guards, guard)

    def destroy_node(self) -> None:
        """Destroy everything of the node and take it out of the graph."""
        if self._ros_destroyed:
            return
        self._ros_destroyed = True
        log.set_publisher(self._ros_logger.name, None)
        self.context.graph.remove_node(self._ros_namespace, self._ros_name)
        executor = self.executor
        for kind in (
            "_ros_timers",
            "_ros_guards",
            "_ros_subscriptions",
            "_ros_services",
            "_ros_clients",
            "_ros_publishers",
        ):
            for entity in list(getattr(self, kind)):
                entity.destroy()
            getattr(self, kind).clear()
        if executor is not None:
            executor.remove_node(self)

    def wake(self) -> None:
        """End the executor's present wait."""
        if self.executor is not None:
            self.executor.wake()

    # Graph

    def get_node_names(self) -> list[str]:
        """Names of all nodes of the domain."""
        return [name for name, _ in self.context.graph.nodes()]

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        """Names and namespaces of all nodes of the domain."""
        return self.context.graph.nodes()

    def get_topic_names_and_types(self, no_demangle: bool = False) -> list[tuple[str, list[str]]]:
        """All topics with a publisher or a subscription, and their types."""
        del no_demangle
        found: dict[str, set[str]] = {}
        for endpoint in [*self.context.graph.endpoints(True), *self.context.graph.endpoints(False)]:
            if endpoint.topic.startswith("rt/") and _TOPIC.match(endpoint.topic[2:]):
                found.setdefault(endpoint.topic[2:], set()).add(_ros_type(endpoint.type_name))
        return [(topic, sorted(types)) for topic, types in sorted(found.items())]

    def count_publishers(self, topic_name: str) -> int:
        """Publishers on a topic, everywhere in the domain."""
        return len(self._ros_topic_endpoints(topic_name, True))

    def count_subscribers(self, topic_name: str) -> int:
        """Subscriptions on a topic, everywhere in the domain."""
        return len(self._ros_topic_endpoints(topic_name, False))

    def get_publishers_info_by_topic(self, topic_name: str) -> list[EndpointInfo]:
        """Who publishes on a topic."""
        return [self._ros_info(e) for e in self._ros_topic_endpoints(topic_name, True)]

    def get_subscriptions_info_by_topic(self, topic_name: str) -> list[EndpointInfo]:
        """Who listens on a topic."""
        return [self._ros_info(e) for e in self._ros_topic_endpoints(topic_name, False)]

    def get_publisher_names_and_types_by_node(
        self, node_name: str, node_namespace: str, no_demangle: bool = False
    ) -> list[tuple[str, list[str]]]:
        """Topics that a node publishes, and their types; empty for a node that nobody knows."""
        del no_demangle
        found: dict[str, set[str]] = {}
        owned = self.context.graph.endpoints_of(node_name, node_namespace)
        for endpoint in self.context.graph.endpoints(True):
            if endpoint.gid in owned and endpoint.topic.startswith("rt/"):
                found.setdefault(endpoint.topic[2:], set()).add(_ros_type(endpoint.type_name))
        return [(topic, sorted(types)) for topic, types in sorted(found.items())]

    def get_client_names_and_types_by_node(self, node_name: str, node_namespace: str) -> list[tuple[str, list[str]]]:
        """Services that a node has clients of, and their types; empty for a node that nobody knows."""
        found: dict[str, set[str]] = {}
        owned = self.context.graph.endpoints_of(node_name, node_namespace)
        for endpoint in self.context.graph.endpoints(True):
            if endpoint.gid in owned and (asked := _REQUEST.fullmatch(endpoint.topic)):
                found.setdefault(asked[1], set()).add(_ros_type(endpoint.type_name).removesuffix("_Request"))
        return [(service, sorted(types)) for service, types in sorted(found.items())]

    def _ros_topic_endpoints(self, topic_name: str, publications: bool) -> list[Any]:
        name = f"rt{self.resolve_topic_name(topic_name)}"
        return [e for e in self.context.graph.endpoints(publications) if e.topic == name]

    def _ros_info(self, endpoint: Any) -> EndpointInfo:
        owner = self.context.graph.owner(endpoint.gid) or ("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_")
        return EndpointInfo(owner, _ros_type(endpoint.type_name), endpoint.gid, QoSProfile.from_dds(endpoint.qos))

    # Internals

    def _ros_register(self, kind: list[Any], entity: Any) -> Any:
        kind.append(entity)
        # The endpoint exists before it is announced, so that nobody looks for one that is not there.
        self.context.graph.add((self._ros_namespace, self._ros_name), *entity.entities())
        self.wake()
        return entity

    def _ros_serve(self, made: type[Service], srv_type: Any, srv_name: str, *more: Any) -> Service:
        name = self.resolve_service_name(srv_name)
        return self._ros_register(self._ros_services, made(self, srv_type, name, *more))

    def _ros_release(self, kind: list[Any], entity: Any) -> bool:
        if entity not in kind:
            return False
        kind.remove(entity)
        if hasattr(entity, "entities"):
            readers, writers = entity.entities()
            self.context.graph.remove((self._ros_namespace, self._ros_name), [*readers, *writers])
        entity.destroy()
        self.wake()
        return True

    def _ros_start_rosout(self) -> None:
        cls = registry().message("rcl_interfaces/msg/Log")
        publisher = self.create_publisher(cls, "/rosout", rosout_profile)

        def publish(level: int, name: str, text: str, file: str, function: str, line: int) -> None:
            if publisher.destroyed or not self.context.ok():
                return
            stamp = self._ros_clock.now().to_msg()
            publisher.publish(
                cls(stamp=stamp, level=level, name=name, msg=text, file=file, function=function, line=line)
            )

        log.set_publisher(self._ros_logger.name, publish)

    def _ros_use_sim_time(self, active: bool) -> None:
        """Follow ``/clock``, or the system clock again."""
        if active and self._ros_clock.simulated is None:
            self._ros_clock.simulated = 0
            cls = registry().message("rosgraph_msgs/msg/Clock")
            self._ros_clock_subscription = self.create_subscription(cls, "/clock", self._ros_on_clock, clock_profile)
        elif not active and self._ros_clock.simulated is not None:
            self._ros_clock.simulated = None
            self.destroy_subscription(self._ros_clock_subscription)
        for timer in self._ros_timers:
            if timer.clock is self._ros_clock:
                timer.clock_jumped()

    def _ros_on_clock(self, message: Any) -> None:
        if self._ros_clock.simulated is not None:
            self._ros_clock.simulated = message.clock.sec * 10**9 + message.clock.nanosec


def _ros_type(dds_name: str) -> str:
    dds_name = sentence(dds_name, _LONGEST_TYPE)
    return dds_name.replace("::dds_::", "::").replace("::", "/").removesuffix("_")
