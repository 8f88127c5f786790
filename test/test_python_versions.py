"""Every source runs on Humble's Python 3.10 as on Lyrical's 3.14.

The lower end is the linters' affair (make lint): ruff knows the grammar of its target version, vermin the names of the
standard library. They do not look for what newer versions have removed, which is here.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    ROOT / "setup.py",
    *(path for folder in ("spec_vla_ros", "launch", "scripts", "test") for path in (ROOT / folder).rglob("*.py")),
    *(path for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.suffix),
]
OLDEST = (3, 10)
# In Python 3.10 and not in 3.14.
REMOVED = {
    *("binhex", "asynchat", "asyncore", "distutils", "imp", "smtpd"),
    *("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3", "mailcap", "msilib", "nis", "nntplib"),
    *("ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib", "typing.io", "typing.re"),
    *("ast.Bytes", "ast.Ellipsis", "ast.NameConstant", "ast.Num", "ast.Str", "asyncio.coroutine"),
    *("asyncio.get_child_watcher", "configparser.SafeConfigParser", "importlib.find_loader", "inspect.getargspec"),
    *("locale.resetlocale", "pkgutil.find_loader", "pkgutil.get_loader", "pkgutil.ImpImporter"),
    *("sqlite3.version", "ssl.match_hostname", "ssl.wrap_socket", "unittest.findTestCases", "unittest.makeSuite"),
}  # fmt: skip


def removed(source):
    """What of REMOVED is imported, or read as ``module.name``. Grammar newer than OLDEST raises ``SyntaxError``."""
    found = set()
    for node in ast.walk(ast.parse(source, feature_version=OLDEST)):
        if isinstance(node, ast.Import):
            found |= {name for alias in node.names for name in (alias.name, alias.name.partition(".")[0])}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {
                node.module,
                node.module.partition(".")[0],
                *(f"{node.module}.{alias.name}" for alias in node.names),
            }
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found & REMOVED


def test_nothing_is_used_that_newer_versions_of_python_have_removed():
    assert len(SOURCES) > 300
    gone = {str(path.relative_to(ROOT)): found for path in SOURCES if (found := removed(path.read_text()))}
    assert not gone


@pytest.mark.parametrize(
    "source",
    ["import distutils.util", "from imp import reload", "from ast import Str", "x = ast.Num", "import cgi as c"],
)
def test_what_has_been_removed_is_found(source):
    assert removed(source)


@pytest.mark.parametrize("source", ["try:\n  pass\nexcept* OSError:\n  pass", "type X = int", "def f[T](): pass"])
def test_newer_grammar_is_refused(source):
    with pytest.raises(SyntaxError):
        removed(source)


def test_all_who_name_the_oldest_python_name_the_same():
    major, minor = OLDEST
    assert f'python_requires=">={major}.{minor}"' in (ROOT / "setup.py").read_text()
    assert f'target-version = "py{major}{minor}"' in (ROOT / "pyproject.toml").read_text()
    assert f"-t={major}.{minor}- " in (ROOT / "Makefile").read_text()


# Modules of Jazzy's rclpy that Humble's does not have.
NOT_ON_HUMBLE = {
    *("clock_type", "destroyable", "event_handler", "logging_service", "parameter_client", "parameter_event_handler"),
    *("service_introspection", "type_description_service", "type_hash"),
}  # fmt: skip


def test_no_module_needs_an_rclpy_that_is_younger_than_humble_s():
    """Parameter clients were: demo and campaign did not start there. Within a function there may be a way out."""
    own = [path for path in (ROOT / "spec_vla_ros").rglob("*.py") if path.parent.name != "embedded_ros"]
    sources = {path: ast.parse(path.read_text()).body for path in own}
    needed = {
        (str(path.relative_to(ROOT)), node.module)
        for path, body in sources.items()
        for node in body
        if isinstance(node, ast.ImportFrom) and (node.module or "").removeprefix("rclpy.") in NOT_ON_HUMBLE
    }
    assert any(getattr(node, "module", "") == "rclpy.node" for body in sources.values() for node in body)
    assert not needed
