"""``spec-vla bench faults``: the real node, a few faults of the long campaign; and a campaign that has to fail."""

import json

import processes
import pytest

CLI = "import sys; from spec_vla_ros.cli import main; sys.exit(main())"
FEW = (
    "camera stops", "stamps 5 s old", "truncated image", "200 instructions in 0.5 s", "blank instruction",
    "policy says NaN", "policy hangs", "parameter storm", "dry run", "second publisher", "arm vanishes",
    "another arm appears", "arm killed", "transforms cease", "2 000 names asked about", "client without ears",
    "SIGTERM", "SIGKILL", "both told to end", "safety process killed", "clock stops",
)  # fmt: skip
COUNT = len(FEW) + 1  # the fault of the clock comes twice in the part with simulated time

# Nodes with a defect, as Python to run before the main() of the real one and of its safety process.
NO_LIMIT = "from spec_vla_ros.motion.limits import SpeedLimit\nSpeedLimit.apply = lambda self, twist, *_: (twist, 1.0)"
DEAF = "from spec_vla_ros.node.act_node import ActNode\nActNode._fail = lambda self, fault: None"
NO_LAST_ZERO = """
from spec_vla_ros.motion.safety import SafetyLoop, Wire
def leave(self, now):
    self.wire = Wire.OVER
SafetyLoop.leave = leave
"""
STALLS = """
import time
from spec_vla_ros.motion.safety import SafetyLoop
tick, count = SafetyLoop.tick, []
def stall(self, now, listeners):
    count.append(now)
    if len(count) % 100 == 0:
        time.sleep(0.2)
    return tick(self, now, listeners)
SafetyLoop.tick = stall
"""
BROKEN_ACT = """
import sys
from spec_vla_ros.node import safety_link
from spec_vla_ros.node.act_node import main
safety_link.MODULE = "broken_safety"
"""
BROKEN_SAFETY = """
import sys
from spec_vla_ros.node.safety_node import main
{}
if __name__ == "__main__":
    sys.exit(main())
"""
PROBE = """
import json, sys
from spec_vla_ros.bench.faults import Options, measure, safe
rows = measure(Options(4, 0, 0.3, kinds=(sys.argv[1],), module="broken_act"), lambda line: None)
print(json.dumps({"safe": safe(rows), "rows": rows}))
"""


def run(code, *arguments, path=()):
    return processes.run("-c", code, *arguments, env=processes.environment(*path), timeout=180)


def test_a_short_campaign_is_survived(ros, tmp_path):
    path = tmp_path / "faults.json"
    arguments = ("--faults", str(COUNT), "--seed", "3", "--seconds-per-fault", "0.5", "--json", str(path))
    done = run(CLI, "bench", "faults", *arguments, "--pairs", "0", "--kinds", *FEW)
    assert done.returncode == 0, done.stdout + done.stderr
    *rows, total = json.loads(path.read_text())["rows"]
    assert total["injected"] == COUNT == sum(row["injected"] for row in rows)
    assert total["unsafe"] == total["unexpected"] == 0
    assert total["moving_velocities"] > 20 * COUNT, "the arm was driven between the faults"
    assert {row["kind"] for row in rows} == set(FEW)
    for row in rows:
        assert set(row["answers"]) <= set(row["expected"]), row
        assert row["unsafe"] == 0
    stopped = {row["kind"]: row["to_zero_ms"]["median"] for row in rows}
    assert stopped["camera stops"] < 700
    assert stopped["SIGKILL"] < 100, "by the child, before the sink would give up"
    assert stopped["parameter storm"] is None


@pytest.mark.parametrize(
    ("defect", "kind", "rule"),
    [
        (NO_LIMIT, "deactivate", "too fast"),
        (DEAF, "second publisher", "after a fault"),
        (NO_LAST_ZERO, "SIGKILL", "no zero at the end"),
        (STALLS, "camera at 200 Hz", "gap"),
    ],
    ids=["no limit", "deaf to faults", "no last zero", "stalls"],
)
def test_a_broken_node_is_found_out(ros, tmp_path, defect, kind, rule):
    (tmp_path / "broken_act.py").write_text(BROKEN_ACT + defect + "\n")
    (tmp_path / "broken_safety.py").write_text(BROKEN_SAFETY.format(defect))
    done = run(PROBE, kind, path=[tmp_path])
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert not result["safe"]
    row = result["rows"][0]
    assert row["unsafe"] > 0
    assert rule in {unsafe["rule"] for unsafe in row["unsafe_first"]}


def test_two_faults_at_once(ros, tmp_path):
    path = tmp_path / "faults.json"
    arguments = ("--faults", "4", "--seed", "5", "--seconds-per-fault", "0.3", "--pairs", "1", "--json", str(path))
    kinds = ("camera stops", "dry run", "policy raises", "another arm appears")
    done = run(CLI, "bench", "faults", *arguments, "--kinds", *kinds)
    assert done.returncode == 0, done.stdout + done.stderr
    total = json.loads(path.read_text())["rows"][-1]
    assert total["pairs_injected"] == total["injected"] == 4
    assert total["node_starts"] == 1, "both were repaired every time"


def test_an_unknown_kind_is_one_line_and_the_list(ros):
    done = run(CLI, "bench", "faults", "--kinds", "earthquake")
    assert done.returncode == 2
    assert "earthquake" in done.stderr
    assert "camera stops" in done.stderr
    assert "Traceback" not in done.stderr
