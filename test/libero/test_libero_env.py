"""LIBERO's own environments. Skipped where they are not installed or their assets are missing: docs/libero.md."""

import numpy as np
import pytest

from spec_vla_ros.libero.protocol import NO_OP, STATES, SUITES, TASKS
from spec_vla_ros.libero.world import FOLDERS, LiberoMissingError, LiberoWorld, require

try:
    require()
    WHY_NOT = ""
except LiberoMissingError as error:
    WHY_NOT = str(error).splitlines()[0]

needs_libero = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@needs_libero
def test_missing_assets_are_named_with_the_ways_to_get_them(tmp_path):
    with pytest.raises(LiberoMissingError, match=r"(?s)textures are missing.*git clone.*pip install"):
        require(tmp_path)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    with pytest.raises(LiberoMissingError, match="lacks articulated_objects"):
        require(tmp_path)
    for folder in FOLDERS:
        (tmp_path / folder / "file").touch()
    assert require(tmp_path) == tmp_path.resolve()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = LiberoWorld(SUITES["spatial"], tmp_path_factory.mktemp("libero"))
    yield world
    world.close()


@needs_libero
def test_a_stored_state_gives_the_same_picture_again_and_an_action_moves_the_arm(world, tmp_path):
    assert len(world.tasks) == TASKS
    assert world.tasks[0].startswith("pick up the black bowl between the plate and the ramekin")
    assert world.states(0) == STATES
    first = world.reset(0, 0, 0)
    assert (first.shape, first.dtype) == ((256, 256, 3), np.uint8)
    still, done = world.step(np.array(NO_OP))
    assert not done
    moved = still
    for _ in range(5):
        moved, done = world.step(np.array([1.0, 0, 0, 0, 0, 0, -1.0]))
    assert not done
    assert np.abs(moved.astype(int) - still).mean() > 2 * np.abs(still.astype(int) - first).mean()
    np.testing.assert_array_equal(world.reset(0, 0, 0), first)


@needs_libero
def test_the_seed_moves_the_fixtures_and_the_task_is_won_where_its_goal_holds(world):
    def stove():
        model = world._env.sim.model
        return np.array(model.body_pos[model.body_name2id("flat_stove_1_main")])

    world.reset(0, 1, 0)
    before = stove()
    world.reset(0, 1, 1)
    assert 1e-4 < np.abs(stove() - before).max() < 0.05
    sim = world._env.sim
    plate = sim.data.get_joint_qpos("plate_1_joint0").copy()
    bowl = sim.data.get_joint_qpos("akita_black_bowl_1_joint0").copy()
    bowl[:3] = plate[:3] + np.array([0, 0, 0.03])
    sim.data.set_joint_qpos("akita_black_bowl_1_joint0", bowl)
    sim.forward()
    done = [world.step(np.array(NO_OP))[1] for _ in range(20)]
    assert any(done), "the bowl has come to rest on the plate"
