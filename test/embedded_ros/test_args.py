"""``--ros-args`` by rcl's rules: scalars, remaps, parameter files and who wins."""

import math

import pytest

from spec_vla_ros.embedded_ros.args import RosArgsError, parse_ros_args, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-7", -7), ("0x10", 16), ("010", 8), ("0", 0), ("1.0", 1.0), ("1e3", 1000.0), (".5", 0.5),
        (".inf", math.inf),
        ("true", True), ("Yes", True), ("ON", True), ("y", True), ("off", False), ("No", False), ("tRUE", "tRUE"),
        ("'1'", "1"), ('"true"', "true"), ("~", "~"), ("null", "null"), ("2024-01-01", "2024-01-01"), ("08", 8.0),
        ("a b", "a b"), ("[1, 2]", [1, 2]), ("[1.0, 2.5]", [1.0, 2.5]), ("[a, '1']", ["a", "1"]), ("[]", []),
        ("pick up the red block", "pick up the red block"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_rcl(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number():
    assert math.isnan(parse_value("nan"))


@pytest.mark.parametrize(
    "argv",
    [
        ["-p", "x:=[1, 2.0]"], ["-p", "x"], ["-p"], ["-r", "a"], ["--unknown", "x"], ["--log-level", "loud"],
        ["--params-file", "/nowhere.yaml"], ["-p", "x:={a: 1}"], ["-p", "x:='open"],
        ["-p", "/n:x:=1"], ["-p", "/**:x:=1"], ["-r", "/n:a:=b"],
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(argv):
    with pytest.raises(RosArgsError):
        parse_ros_args(["--ros-args", *argv])


def test_blocks_are_taken_out_of_the_arguments():
    args = parse_ros_args(["prog", "--ros-args", "-p", "a:=1", "--", "rest", "--ros-args", "--log-level", "debug"])
    assert args.remaining == ["prog", "rest"]
    assert args.log_level == 10
    assert args.overrides_for("/n") == {"a": 1}


def test_remaps_take_the_first_fit_and_do_not_chain():
    args = parse_ros_args(["--ros-args", "-r", "a:=b", "-r", "b:=c", "-r", "a:=d", "-r", "other:e:=f", "-r", "~/p:=/q"])
    assert args.resolve("a", "n", "/ns") == "/ns/b"
    assert args.resolve("/ns/a", "n", "/ns") == "/ns/b"
    assert args.resolve("/a", "n", "/ns") == "/a"
    assert args.resolve("e", "n", "/ns") == "/ns/e"
    assert args.resolve("e", "other", "/ns") == "/ns/f"
    assert args.resolve("~/p", "n", "/ns") == "/q"
    assert args.resolve("{node}/x", "n", "/ns") == "/ns/n/x"


FILE = """
/**:
  ros__parameters: {deep: 1, nested: {a: 0x10, b: 'text'}}
/*:
  ros__parameters: {level: one}
arm:
  ros__parameters: {mine: true}
/ns/arm:
  ros__parameters: {mine: false, deep: 2}
ns:
  arm:
    ros__parameters: {list: [1.0, 2.0]}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(FILE)
    return str(path)


def test_files_address_nodes_by_pattern(file):
    args = parse_ros_args(["--ros-args", "--params-file", file])
    assert args.overrides_for("/arm") == {"deep": 1, "nested.a": 16, "nested.b": "text", "level": "one", "mine": True}
    assert args.overrides_for("/ns/arm") == {
        "deep": 2, "nested.a": 16, "nested.b": "text", "mine": False, "list": [1.0, 2.0],
    }  # fmt: skip
    assert args.overrides_for("/ns/x") == {"deep": 1, "nested.a": 16, "nested.b": "text"}


def test_who_wins(file):
    def value(*argv, own=()):
        process = parse_ros_args(["--ros-args", *argv])
        return parse_ros_args(["--ros-args", *own]).merged_over(process).overrides_for("/ns/arm")["deep"]

    assert value("-p", "deep:=5") == 5
    assert value("-p", "deep:=5", "-p", "deep:=6") == 6
    assert value("-p", "arm:deep:=6", "-p", "deep:=5") == 5  # a bare name means the root namespace
    # A pattern keeps the place where it was first seen, here before the file's "/ns/arm".
    assert value("--params-file", file, "-p", "deep:=5") == 2
    assert value("--params-file", file, own=["-p", "deep:=9"]) == 9  # the node's own arguments beat the process's


def test_a_file_of_another_form_is_refused(tmp_path):
    path = tmp_path / "wrong.yaml"
    for data in (b"gain: 1\n", b"node: {ros__parameters: 3}\n", b"a: [\n", b"a: \xff\n"):
        path.write_bytes(data)
        with pytest.raises(RosArgsError, match=r"wrong\.yaml"):
            parse_ros_args(["--ros-args", "--params-file", str(path)])


@pytest.mark.parametrize("domain", ["first", "-1", "233", "1.0"])
def test_a_domain_that_is_no_number_is_named(domain, monkeypatch):
    """A bare ValueError from ``int`` does not say which setting is wrong."""
    from spec_vla_ros.embedded_ros.context import Context

    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    with pytest.raises(RuntimeError, match=f"ROS_DOMAIN_ID must be a number in 0..232, not '{domain}'"):
        Context().init(args=[])
