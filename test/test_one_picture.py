"""One camera image is one tensor, whoever asks: node, replay, training and LIBERO.

Each of them could resize by itself, and LIBERO and the table top did.
"""

import ast
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import spec_vla_ros
from spec_vla_ros.libero import bench as libero
from spec_vla_ros.libero.protocol import model_picture
from spec_vla_ros.node.parameters import PARAMETERS, Fixed
from spec_vla_ros.node.policy_factory import load_openvla
from spec_vla_ros.openvla.example import write_example_checkpoint
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.picture import EVALUATION, IMAGE_RESIZES, PictureRule, jpeg_round_trip
from spec_vla_ros.replay import session
from spec_vla_ros.replay.options import Options
from spec_vla_ros.training import draft_data, train_draft

FRAME = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return write_example_checkpoint(tmp_path_factory.mktemp("picture") / "example")


def by_node(folder, crop, resize):
    values = {spec.name: spec.default for spec in PARAMETERS} | {"model": str(folder), "device": "cpu"}
    values |= {"centre_crop": crop, "image_resize": resize}
    return load_openvla(Fixed(**{name: values[name] for name in Fixed.__dataclass_fields__})).loaded


def by_replay(folder, crop, resize):
    options = Options(bag=Path("none"), model=str(folder), device="cpu", centre_crop=crop, image_resize=resize)
    return session._load(options)[0]


def by_training(folder, crop, resize):
    command = ["--model", str(folder), "--device", "cpu", "--image-resize", resize, *["--centre-crop"] * crop]
    arguments = train_draft.parser().parse_args(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_draft, "make_shards", stop)
        with pytest.raises(Enough) as caught:
            train_draft.run(arguments, SimpleNamespace(device="cpu"), print)
    return caught.value.args[0]


class Enough(Exception):
    """With the model that would label."""


def stop(loaded, *_):
    raise Enough(loaded)


@pytest.mark.parametrize("by", [by_node, by_replay, by_training])
@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("resize", ["auto", *IMAGE_RESIZES])
def test_the_same_frame_gives_the_same_tensor(folder, by, crop, resize):
    loaded = by(folder, crop, resize)
    rule = PictureRule.of(loaded.config, crop, EVALUATION if resize == "auto" else resize)
    prepared = load_model(folder).transform(rule.picture(FRAME))  # which is resized and cropped no more
    assert torch.equal(loaded.transform(FRAME), prepared)


def test_labels_are_answers_to_these_tensors(folder):
    loaded = load_model(folder, centre_crop=True)
    seen = []
    loaded.model.embed_image = lambda pixels: seen.append(pixels)
    draft_data.BatchedGreedy(loaded).patches([FRAME])
    assert torch.equal(seen[0][0], loaded.transform(FRAME))


def test_libero_prepares_its_picture_in_the_same_place(folder):
    """The bench and the node send a picture of the model's size, of which only the crop is left."""
    options = libero.Options(suite="spatial", model=str(folder), unnorm_key="example", work=Path("none"))
    driver = libero.load_driver(options, "cpu", 1)
    rendered = FRAME[:256, :256]
    transform = driver.policy.loaded.transform
    assert torch.equal(transform(model_picture(rendered, driver.size)), transform(rendered[::-1, ::-1]))
    assert transform.rule.words(driver.size, driver.size).endswith("-> centre crop 0.9")
    turned = rendered[::-1, ::-1]
    np.testing.assert_array_equal(model_picture(rendered, 256), jpeg_round_trip(turned), "stored as a data set stores")


def test_nobody_else_resizes_what_a_model_sees():
    root = Path(spec_vla_ros.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if names & {"Resampling", "INTER_AREA", "INTER_LINEAR", "INTER_CUBIC", "interpolate"}:
            found.add(str(path.relative_to(root)))
    assert found == {"openvla/picture.py", "demo/film.py"}, "a film is for people"


def test_the_table_top_learns_from_what_its_model_sees():
    from spec_vla_ros.installed import model_folder
    from spec_vla_ros.tabletop.training.model import TABLETOP
    from spec_vla_ros.tabletop.training.vision import to_pixels

    loaded = load_model(model_folder())
    image = FRAME[:224, :224]
    picture = PictureRule.of(TABLETOP).picture(image)
    torch.testing.assert_close(to_pixels(picture[None], TABLETOP)[0], loaded.transform(image))
    assert loaded.transform.rule.words(224, 224) == "224x224 -> bicubic to 112x112"
