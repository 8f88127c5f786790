"""Our parameter services on either runtime: they answer as the runtime's own do, and have bounds."""

import random

import pytest
from rcl_interfaces.msg import FloatingPointRange, Parameter, ParameterDescriptor, ParameterValue, SetParametersResult

from spec_vla_ros.embedded_ros import parameter_services as services
from spec_vla_ros.embedded_ros.parameter_services import SERVICES, ParameterServices, listed

UNIT = ParameterDescriptor(
    description="a share", floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)]
)
SHORT = 600  # characters that a reason may have


def double(name, value):
    return Parameter(name=name, value=ParameterValue(type=3, double_value=value))


def doubles(name, values):
    value = ParameterValue(type=8)
    value.double_array_value = values
    return Parameter(name=name, value=value)


def text(name, value):
    return Parameter(name=name, value=ParameterValue(type=4, string_value=value))


def texts(name, values):
    return Parameter(name=name, value=ParameterValue(type=9, string_array_value=values))


class Log:
    """Takes the place of a node's logger."""

    def __init__(self):
        self.lines = []

    def __getattr__(self, level):
        return lambda line, **_: self.lines.append(line)


def declare(node):
    node.declare_parameter("gain", 0.5, UNIT)
    node.declare_parameter("group.a", [1, 2])
    node.declare_parameter("group.b.c", ["x", "y"])
    node.declare_parameter("group.b.d", "word")
    node.declare_parameter("corner", [1.0, 2.0])
    node.declare_parameter("fixed", 1, ParameterDescriptor(read_only=True))
    node.declare_parameter("unset", type(node.get_parameter("gain")).Type.STRING)
    return node


@pytest.fixture
def bounded(make_node):
    """A node with our services, and what it logs."""
    node = declare(make_node("bounded", start_parameter_services=False))
    ParameterServices(node)
    log = node.log = Log()
    node.get_logger = lambda: log
    return node


@pytest.fixture
def ask(make_node, spin_until):
    """Ask a service of a node by keyword arguments; the response."""
    asker, clients = make_node(), {}

    def call(node, service, **fields):
        name = f"{node.get_fully_qualified_name()}/{service}"
        if name not in clients:
            clients[name] = asker.create_client(SERVICES[service], name)
            assert clients[name].wait_for_service(10)
        future = clients[name].call_async(SERVICES[service].Request(**fields))
        spin_until(future.done, node, asker)
        return future.result()

    return call


NAMES = ["gain", "group.a", "group.b.c", "group.b.d", "corner", "fixed", "use_sim_time"]
ASKED = [
    *(("get_parameters", {"names": names}) for names in ([], NAMES, ["gain", "no"], ["gain", "unset"], ["gain"] * 3)),
    *(("get_parameter_types", {"names": names}) for names in ([], NAMES, ["gain", "unset"], ["no", "gain"])),
    *(("describe_parameters", {"names": names}) for names in ([], ["gain", "group.a", "fixed"], ["gain", "no"])),
    *(
        ("list_parameters", {"prefixes": prefixes, "depth": depth})
        for prefixes in ([], ["group"], ["group", "group.b"], ["group.b.c"], ["gro"], ["gain", "none"], [""])
        for depth in (0, 1, 2, 10)
    ),
    ("set_parameters", {"parameters": [double("gain", 0.25), double("gain", 7.0), double("no", 1.0)]}),
    ("set_parameters", {"parameters": [text("gain", "x"), double("fixed", 2.0), texts("group.b.c", ["z"])]}),
    ("set_parameters", {"parameters": [doubles("corner", [3.0, 4.0]), doubles("corner", [])]}),
    ("set_parameters", {"parameters": [Parameter(name="gain"), double("", 1.0)][:1]}),
    ("set_parameters_atomically", {"parameters": [double("gain", 0.75), text("group.b.d", "new")]}),
    ("set_parameters_atomically", {"parameters": [double("gain", 0.1), double("no", 1.0)]}),
    ("set_parameters_atomically", {"parameters": [double("gain", 0.1), double("gain", 7.0)]}),
]


def without_reasons(response):
    """Two sentences may differ; that there is one must not."""
    results = [*getattr(response, "results", ()), *([response.result] if hasattr(response, "result") else ())]
    for result in results:
        if hasattr(result, "reason"):
            result.reason = "a reason" if result.reason else ""
    return response


def test_they_answer_as_the_runtime_s_own(bounded, make_node, ask):
    theirs = declare(make_node("unbounded"))
    for service, fields in ASKED:
        if service == "list_parameters" and not hasattr(theirs, service):
            continue  # Humble's own lists in another order, and nothing below a prefix with a depth of 1
        ours = without_reasons(ask(bounded, service, **fields))
        own = without_reasons(ask(theirs, service, **fields))
        assert str(ours) == str(own), (service, fields)
    for name in NAMES:
        assert list_or_value(bounded, name) == list_or_value(theirs, name)


def list_or_value(node, name):
    value = node.get_parameter(name).value
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str) else value


@pytest.mark.parametrize("service", ["set_parameters", "set_parameters_atomically"])
@pytest.mark.parametrize(
    ("refused", "because"),
    [
        (Parameter(name="gain", value=ParameterValue(type=77)), "type 77"),
        (Parameter(name="gain", value=ParameterValue(type=255)), "type 255"),
        (doubles("corner", [0.5] * (services.MAX_ELEMENTS + 1)), f"{services.MAX_ELEMENTS + 1} elements"),
        (texts("group.b.c", ["x"] * (services.MAX_ELEMENTS + 1)), f"{services.MAX_ELEMENTS + 1} elements"),
        (texts("group.b.c", ["x" * services.MAX_TEXT, "y"]), "characters"),
        (text("group.b.d", "x" * (services.MAX_TEXT + 1)), f"{services.MAX_TEXT + 1} characters"),
        (double("x" * (services.MAX_NAME + 1), 1.0), f"a name of {services.MAX_NAME + 1} characters"),
        (double("no\nsuch\x1bname", 1.0), "not declared"),
        (double("", 1.0), ""),
    ],
    ids=["type", "another type", "numbers", "texts", "long texts", "text", "long name", "unknown", "no name"],
)
def test_what_no_parameter_can_be_is_refused_with_a_short_reason(bounded, ask, service, refused, because):
    before = {name: list_or_value(bounded, name) for name in NAMES}
    response = ask(bounded, service, parameters=[refused])
    (result,) = response.results if service == "set_parameters" else [response.result]
    assert not result.successful
    assert result.reason
    assert because in result.reason
    for line in (result.reason, *bounded.log.lines):
        assert len(line) < SHORT
        assert line.isprintable()
    assert before == {name: list_or_value(bounded, name) for name in NAMES}
    good = ask(bounded, "set_parameters", parameters=[double("gain", 0.125)])
    assert good.results[0].successful, "and the node goes on"


def test_a_fixed_parameter_may_be_set_to_what_it_is(bounded, ask):
    """As ``ros2 param load`` does with what ``ros2 param dump`` wrote; it was a failure for every fixed parameter."""
    same = Parameter(name="fixed", value=ParameterValue(type=2, integer_value=1))
    other = Parameter(name="fixed", value=ParameterValue(type=2, integer_value=2))
    events = []
    bounded.add_on_set_parameters_callback(
        lambda changes: events.extend(changes) or SetParametersResult(successful=True)
    )
    results = ask(bounded, "set_parameters", parameters=[same, other, double("fixed", 1.0)]).results
    assert [result.successful for result in results] == [True, False, False]
    assert events == [], "no change"
    assert ask(bounded, "set_parameters_atomically", parameters=[same, double("gain", 0.125)]).result.successful
    assert [change.name for change in events] == ["gain"]
    assert bounded.get_parameter("gain").value == 0.125
    assert not ask(bounded, "set_parameters_atomically", parameters=[other, double("gain", 0.5)]).result.successful
    assert bounded.get_parameter("gain").value == 0.125
    assert bounded.get_parameter("fixed").value == 1


def test_arrays_and_texts_up_to_the_bound_are_taken(bounded, ask):
    longest = [doubles("corner", [0.5] * services.MAX_ELEMENTS), text("group.b.d", "x" * services.MAX_TEXT)]
    assert all(result.successful for result in ask(bounded, "set_parameters", parameters=longest).results)
    assert len(bounded.get_parameter("corner").value) == services.MAX_ELEMENTS


def test_many_parameters_at_once(bounded, ask):
    most = [double("gain", 0.25)] * services.MAX_SET
    results = ask(bounded, "set_parameters", parameters=most).results
    assert len(results) == services.MAX_SET
    assert all(result.successful for result in results)
    more = [*most, double("gain", 0.75)]
    results = ask(bounded, "set_parameters", parameters=more).results
    assert results
    assert not any(result.successful for result in results)
    together = ask(bounded, "set_parameters_atomically", parameters=more).result
    assert not together.successful
    assert str(services.MAX_SET) in together.reason
    assert bounded.get_parameter("gain").value == 0.25


@pytest.mark.parametrize(
    ("service", "answer"),
    [("get_parameters", "values"), ("get_parameter_types", "types"), ("describe_parameters", "descriptors")],
)
def test_more_names_than_anybody_has_get_an_empty_answer(bounded, ask, service, answer):
    most = ["gain"] * services.MAX_NAMES
    assert len(getattr(ask(bounded, service, names=most), answer)) == services.MAX_NAMES
    assert not bounded.log.lines
    assert not len(getattr(ask(bounded, service, names=[*most, "gain"]), answer))
    (line,) = bounded.log.lines
    assert str(services.MAX_NAMES) in line


def test_an_answer_has_a_size(bounded, ask):
    ask(bounded, "set_parameters", parameters=[text("group.b.d", "x" * services.MAX_TEXT)])
    count = services.MAX_ANSWER // services.MAX_TEXT
    assert len(ask(bounded, "get_parameters", names=["group.b.d"] * (count - 1)).values) == count - 1
    assert ask(bounded, "get_parameters", names=["group.b.d"] * (count + 1)).values == []
    assert str(services.MAX_ANSWER) in bounded.log.lines[-1]


def test_more_prefixes_than_anybody_has(bounded, ask):
    many = [f"p{i}" for i in range(services.MAX_NAMES)]
    assert list(ask(bounded, "list_parameters", prefixes=[*many[1:], "group"]).result.names) == NAMES[1:4]
    assert list(ask(bounded, "list_parameters", prefixes=[*many, "group"]).result.names) == []
    assert str(services.MAX_NAMES) in bounded.log.lines[-1]


def test_what_makes_one_event_has_a_size(bounded, ask, monkeypatch):
    monkeypatch.setattr(services, "MAX_ANSWER", 10_000)
    several = [text("group.b.d", "x" * 4000)] * 3
    result = ask(bounded, "set_parameters_atomically", parameters=several).result
    assert not result.successful
    assert "10000" in result.reason
    assert all(result.successful for result in ask(bounded, "set_parameters", parameters=several).results)


def test_a_callback_that_raises_refuses_and_is_told(bounded, ask):
    """Out of the service it would end the executor, or latch a fault that the next client did not make."""

    def fail(parameters):
        raise ArithmeticError("first\nsecond " + "x" * 10**5)

    bounded.add_on_set_parameters_callback(fail)
    (result,) = ask(bounded, "set_parameters", parameters=[double("gain", 0.25)]).results
    assert not result.successful
    assert "ArithmeticError" in result.reason
    assert len(result.reason) < SHORT
    assert "ArithmeticError" in bounded.log.lines[-1]


def test_a_reason_is_cut_to_a_length(bounded, ask):
    bounded.add_on_set_parameters_callback(lambda _: SetParametersResult(successful=False, reason="long\n" * 10**5))
    (result,) = ask(bounded, "set_parameters", parameters=[double("gain", 0.25)]).results
    assert len(result.reason) < SHORT


def reference(names, prefixes, depth):
    """rclpy's rule, word for word: every name with every prefix."""
    found = []
    for name in names:
        if prefixes:
            wanted = any(
                name == p or (name.startswith(f"{p}.") and (depth == 0 or name[len(p) + 1 :].count(".") < depth))
                for p in prefixes
            )
        else:
            wanted = depth == 0 or name.count(".") < depth
        found += [name] if wanted else []
    return found


def test_what_is_listed_is_what_the_rule_says():
    dice = random.Random(7)

    def some(most):
        return [
            ".".join(dice.choices(["a", "b", "", "ab"], k=dice.randint(1, 4))) for _ in range(dice.randint(0, most))
        ]

    for _ in range(2000):
        names, prefixes, depth = list(dict.fromkeys(some(12))), some(4), dice.randint(0, 4)
        assert listed(names, prefixes, depth) == reference(names, prefixes, depth), (names, prefixes, depth)
