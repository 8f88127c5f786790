"""Runs on one machine keep out of each other's way."""

import subprocess
import sys

import processes

from spec_vla_ros.ros.children import environment, free_domain

HOLD = (
    "import sys; from spec_vla_ros.ros.children import free_domain; print(free_domain(), flush=True); sys.stdin.read()"
)


def test_two_runs_have_two_domains_whatever_their_process_ids_are():
    """The arm of one run listened to the velocities of another, whose number was the same."""
    with processes.beside() as begin:
        others = [begin("-c", HOLD, stdin=subprocess.PIPE) for _ in range(3)]
        taken = [int(other.stdout.readline()) for other in others]
        mine = free_domain()
        assert len({*taken, mine}) == 4
        for other in others:
            other.stdin.close()
            other.wait()


def test_a_domain_is_free_again_when_its_run_has_ended():
    code = "from spec_vla_ros.ros import children; children.DOMAINS = range(200, 201); print(children.free_domain())"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=processes.environment())
        assert done.stdout.strip() == "200", done.stderr
    both = f"{code}; children.free_domain()"
    done = subprocess.run([sys.executable, "-c", both], capture_output=True, text=True, env=processes.environment())
    assert "all of the domains 200 to 200 are taken" in done.stderr


def test_a_demonstration_stays_on_this_machine_on_every_distribution(monkeypatch):
    """Humble does not know the range of discovery, so that the simulated arm was one for the whole network."""
    for distribution, only in (("humble", "1"), ("jazzy", None), (None, None)):
        monkeypatch.delenv("ROS_DISTRO", raising=False)
        if distribution:
            monkeypatch.setenv("ROS_DISTRO", distribution)
        assert environment(99)["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
        assert environment(99).get("ROS_LOCALHOST_ONLY") == only
