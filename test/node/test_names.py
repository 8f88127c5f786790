"""The nodes' private names against those of the base class that they share one instance with."""

import ast
import importlib
import inspect

import pytest


def assigned(cls):
    """Every private name that the class defines, or sets on ``self``."""
    tree = ast.parse(inspect.getsource(cls))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            names.add(node.attr)
    return {name for name in names if name.startswith("_") and not name.endswith("__")}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("node.act_node", "ActNode"),
        ("node.safety_node", "SafetyNode"),
        ("tabletop.arm_node", "ArmNode"),
        ("demo.operator_node", "Operator"),
    ],
)
def test_a_node_does_not_overwrite_what_its_base_class_keeps(module, name, ros):
    """Python lets a subclass replace its base's private attribute in silence; rclpy keeps its timers in such a list."""
    cls = getattr(importlib.import_module(f"spec_vla_ros.{module}"), name)
    base = cls.__mro__[1]
    bare = base("bare", **({"start_parameter_services": False} if name == "SafetyNode" else {}))
    try:
        taken = set(vars(bare)) | set(dir(base))
    finally:
        bare.destroy_node()
    assert assigned(cls), "the class has private names"
    assert not assigned(cls) & taken
