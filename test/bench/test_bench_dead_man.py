"""``spec-vla bench dead-man``: the real node, a camera that falls silent, and a clock that does."""

import json
import subprocess
import sys


def test_every_trial_ends_in_zero_and_is_counted(ros, tmp_path):
    path = tmp_path / "dead.json"
    code = "import sys; from spec_vla_ros.cli import main; sys.exit(main())"
    arguments = ["bench", "dead-man", "--trials", "2", "--image-timeout", "0.2", "--json", str(path)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = json.loads(path.read_text())["rows"]
    assert [row["clock"] for row in rows] == ["goes on", "stops with the camera"]
    for row in rows:
        late = row["after_timeout_ms"]
        assert late["samples"] == 2
        assert -20 < late["median"] <= late["max"] < 1000, "by the dead-man, not by the end of the move after 2 s"
