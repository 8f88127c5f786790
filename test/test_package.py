"""The package as a whole: what is written down twice must agree, and what is promised must be there."""

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

import spec_vla_ros
from spec_vla_ros.node.parameters import PARAMETERS

ROOT = Path(__file__).parents[1]
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
CMAKE = (ROOT / "CMakeLists.txt").read_text()
MESSAGES = sorted(path.name for path in (ROOT / "msg").glob("*.msg"))
ACTIONS = sorted(path.name for path in (ROOT / "action").glob("*.action"))
SOURCES = sorted((ROOT / "spec_vla_ros").rglob("*.py"))


def tags(*names):
    return {element.text for name in names for element in PACKAGE.findall(name)}


def parameters_of(name):
    (section,) = yaml.safe_load((ROOT / "config" / name).read_text()).values()
    return section["ros__parameters"]


# -- one version, one list of everything


def test_the_version_is_the_same_everywhere():
    version = spec_vla_ros.__version__
    assert tags("version") == {version}
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert re.search(rf"^{re.escape(version)} \(.+\)\n-+$", (ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE)
    assert "spec_vla_ros" / Path("__init__.py") == Path("spec_vla_ros/__init__.py")
    assert '"spec_vla_ros" / "__init__.py"' in (ROOT / "setup.py").read_text(), (
        "setup.py reads it, it does not repeat it"
    )


def test_every_message_is_generated_and_every_generated_message_exists():
    generated = re.search(r"rosidl_generate_interfaces\((.*?)\)", CMAKE, re.DOTALL).group(1)
    assert sorted(re.findall(r'"msg/(\w+\.msg)"', generated)) == MESSAGES
    assert sorted(re.findall(r'"action/(\w+\.action)"', generated)) == ACTIONS
    assert ACTIONS


def test_every_package_that_messages_use_is_declared():
    used = {
        match.group(1)
        for name in MESSAGES
        for match in re.finditer(r"^(\w+)/\w+", (ROOT / "msg" / name).read_text(), re.MULTILINE)
    }
    assert used == {"std_msgs"}
    for package in used | {"action_msgs"}:  # every action has types of that one inside
        assert f"find_package({package} REQUIRED)" in CMAKE
        assert package in tags("depend")
        assert re.search(rf"DEPENDENCIES [^)]*{package}", CMAKE)


def test_every_message_field_is_explained():
    for path in [*(ROOT / "msg").glob("*.msg"), *(ROOT / "action").glob("*.action")]:
        name = path.name
        for line in path.read_text().splitlines():
            code, _, comment = line.partition("#")
            if code.strip() and "=" not in code and "header" not in code and code != "---":
                assert comment.strip(), f"{name}: {line}"


def test_every_ros_package_that_is_imported_is_declared():
    declared = tags("depend", "exec_depend", "buildtool_depend") | {"spec_vla_ros"}
    assert_declared([*SOURCES, *(ROOT / "launch").glob("*.py")], declared)


def test_every_ros_package_that_tests_import_is_declared():
    """std_srvs was not, and rosdep did not install it."""
    declared = tags("depend", "exec_depend", "buildtool_depend", "test_depend") | {"spec_vla_ros"}
    assert_declared((ROOT / "test").rglob("*.py"), declared)


def assert_declared(paths, declared):
    imported = set()
    for path in paths:
        if "embedded_ros" in path.parts:
            continue  # stands in for them, and its tests run on nothing else
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported |= {name.split(".")[0] for name in names if name}
    ros = {
        name for name in imported
        if name in {"rclpy", "launch", "launch_ros", "ament_index_python"}
        or name.endswith(("_msgs", "_srvs", "_interfaces"))
    }  # fmt: skip
    assert ros <= declared, f"missing in package.xml: {sorted(ros - declared)}"


# What rosdep calls things, looked up in the public index of August 2026: the packages are released for Humble, Jazzy,
# Kilted, Lyrical and Rolling, the others have rules for Ubuntu and Debian. A wrong name stops "rosdep install".
RELEASED = {
    *("ament_cmake", "ament_cmake_pytest", "ament_cmake_python", "ament_index_python", "builtin_interfaces"),
    *("control_msgs", "diagnostic_msgs", "diagnostic_updater", "geometry_msgs", "launch", "launch_ros"),
    *("lifecycle_msgs", "moveit_msgs", "rcl_interfaces", "rclpy", "ros2launch", "rosbag2", "rosbag2_interfaces"),
    *("rosgraph_msgs", "rosidl_default_generators", "rosidl_default_runtime", "sensor_msgs", "std_msgs", "std_srvs"),
    *("tf2_msgs", "tf2_ros_py"),
    *("action_msgs", "unique_identifier_msgs"),  # rclpy itself depends on them
}  # fmt: skip
RULES = {"python3-numpy", "python3-opencv", "python3-pil", "python3-pytest", "python3-yaml"}


def test_rosdep_knows_every_dependency():
    every = {element.text for element in PACKAGE if element.tag.endswith("_depend") or element.tag == "depend"}
    assert every == RELEASED | RULES, "look a new name up for every distribution; an old one is to be forgotten here"


def test_the_build_type_and_the_install_rules():
    assert PACKAGE.find("export/build_type").text == "ament_cmake"
    assert tags("member_of_group") == {"rosidl_interface_packages"}
    assert not re.search(r"^\s*ament_python_install_package", CMAKE, re.MULTILINE), "clashes with the generated module"
    assert CMAKE.index("rosidl_generate_interfaces") < CMAKE.index("install(DIRECTORY ${PROJECT_NAME}/")
    for tool in (ROOT / "scripts").glob("*.py"):
        assert f"scripts/{tool.name}" not in CMAKE, "for developers, it needs the tests"
    for script in (path for path in (ROOT / "scripts").iterdir() if path.is_file() and path.suffix != ".py"):
        assert f"scripts/{script.name}" in CMAKE
        assert script.read_text().startswith("#!/usr/bin/env python3\n"), "so that the active venv is used"
        assert script.stat().st_mode & 0o111
    for folder in re.search(r"install\(DIRECTORY ([\w ]+) DESTINATION share", CMAKE).group(1).split():
        assert (ROOT / folder).is_dir()


def test_no_module_hides_the_generated_ones():
    assert not {path.name for path in (ROOT / "spec_vla_ros").iterdir()} & {"msg", "srv", "action"}


def test_the_licence_is_there():
    assert tags("license") == {"Apache-2.0"}
    assert "Apache License" in (ROOT / "LICENSE").read_text()


# -- configuration


def test_act_yaml_holds_every_parameter_with_its_default():
    assert parameters_of("act.yaml") == {spec.name: spec.default for spec in PARAMETERS}
    for name, value in parameters_of("act.yaml").items():
        default = next(spec.default for spec in PARAMETERS if spec.name == name)
        assert type(value) is type(default), f"{name}: a double needs its point"


def test_act_yaml_explains_every_parameter_and_names_its_range():
    text = (ROOT / "config" / "act.yaml").read_text()
    for spec in PARAMETERS:
        comment = re.search(rf"^    {spec.name}:.*?#(.*?)(?=^    \w+:|\Z|^$)", text, re.MULTILINE | re.DOTALL).group(1)
        assert len(comment) > 15, spec.name
        assert ("fixed" in comment) == spec.read_only, spec.name
        if spec.range is not None:
            assert f"{spec.range[0]:g}..{spec.range[1]:g}" in comment, spec.name
        for choice in spec.choices:
            assert choice in comment, f"{spec.name}: {choice}"


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_sets_known_parameters_within_their_ranges(path):
    specs = {spec.name: spec for spec in PARAMETERS}
    for section in yaml.safe_load(path.read_text()).values():
        for name, value in section["ros__parameters"].items():
            assert type(value) is type(specs[name].default), name
            if specs[name].range:
                assert specs[name].range[0] <= value <= specs[name].range[1], name
            if specs[name].choices:
                assert value in specs[name].choices, name


def test_parameter_defaults_are_safe():
    defaults = {spec.name: spec.default for spec in PARAMETERS}
    assert defaults["dry_run"] is True
    assert defaults["autostart"] is False
    assert defaults["emit"] == "verifier"


# -- the house


@pytest.mark.parametrize("room", ["openvla", "decoding", "motion", "lerobot", "training"])
def test_ros_stays_out_of_the_rooms_that_know_nothing_of_it(room):
    for path in (ROOT / "spec_vla_ros" / room).rglob("*.py"):
        assert not re.search(
            r"^\s*(import|from) (rclpy|\w+_msgs|spec_vla_ros\.(node|embedded_ros))", path.read_text(), re.M
        )


def test_every_dependency_is_pinned_once():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    setup = (ROOT / "setup.py").read_text()
    wanted = re.search(r"install_requires=(\[.*?\])", setup, re.DOTALL).group(1)
    wanted += re.search(r"extras_require=(\{.*?\n    \})", setup, re.DOTALL).group(1)
    names = {name.lower() for name in re.findall(r'"([A-Za-z][\w-]+?)(?:[<>=][^"]*)?"(?!:)', wanted)}
    assert names == {name.lower() for name in pins}


def test_whoever_names_a_torch_names_the_pinned_one():
    pin = re.search(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group(1)
    pages = [ROOT / "README.md", ROOT / "Makefile", *(ROOT / "docs").glob("*.md"), *(ROOT / "docker").iterdir()]
    named = [(page.name, version) for page in pages for version in re.findall(r"torch==([\d.]+\d)", page.read_text())]
    assert len(named) >= 4
    assert {version for _, version in named} == {pin}, named


def test_the_table_of_distributions_the_workflow_and_the_form_name_the_same_ones():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    matrix = workflow["jobs"]["ros"]["strategy"]["matrix"]
    rows = re.findall(r"^\| \**(\w+)\** \(", (ROOT / "docs" / "distributions.md").read_text(), re.MULTILINE)
    assert {*(row.lower() for row in rows), "rolling"} == set(matrix["distribution"])
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())["body"]
    options = {part["id"]: part["attributes"].get("options") for part in form}
    assert {*rows, "Rolling"} < set(options["distribution"])
    assert set(matrix["middleware"]) < set(options["middleware"])


def test_pre_commit_uses_the_pinned_linter():
    pin = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group(1)
    assert f"rev: v{pin}" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_a_wheel_holds_every_file_beside_the_modules():
    """The report's style and script are such files."""
    patterns = re.search(r'package_data=\{"": \[(.*?)\]', (ROOT / "setup.py").read_text()).group(1)
    beside = {path.suffix for path in (ROOT / "spec_vla_ros").rglob("*.*") if path.is_file()} - {".py", ".pyc"}
    assert {".js", ".css"} <= beside <= {pattern.removeprefix("*") for pattern in re.findall(r'"(.*?)"', patterns)}


def test_files_stay_readable():
    """One file, one idea; whoever needs more than 450 lines has two ideas."""
    assert [path.name for path in SOURCES if len(path.read_text().splitlines()) > 450] == []


def test_colcon_stays_out_of_every_environment_that_the_documentation_makes():
    """It ran the setup.py of foreign packages in there."""
    made = 0
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for line in page.read_text().splitlines():
            if command := re.search(r"python3 -m venv .*?([\w./]+) &&", line):
                made += 1
                assert f"touch {command.group(1)}/COLCON_IGNORE" in line, page.name
    assert made >= 3


def test_nothing_refers_to_one_machine():
    own = Path(__file__)
    pattern = re.compile(r"/(home|root|Users)/\w|\blocalhost:\d|\b\d{1,3}(\.\d{1,3}){3}:\d{2,}")
    texts = [
        path for path in ROOT.rglob("*") if path.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".xml", ".msg"}
    ]
    for path in texts:
        if path == own or any(
            part.startswith(".") or part in {"build", "install", "log", "out"} for part in path.parts
        ):
            continue
        found = pattern.search(path.read_text())
        assert found is None, f"{path.relative_to(ROOT)}: {found.group(0)}"


def test_modules_log_and_do_not_print():
    for path in SOURCES:
        if path.name != "cli.py":
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not any(getattr(call.func, "id", "") == "print" for call in calls), path.name
