"""Whether images that are announced arrive: what a subscriber can know of it."""

import random

import pytest

from spec_vla_ros.node.arrivals import WINDOW, Arrivals, cure


def filmed(share, infos=False, rate=30.0, seconds=8.0, stamped=True, seed=0, jitter=0.0):
    """What is said at the end of ``seconds`` of a camera of which ``share`` of the images arrive."""
    arrivals, rng, now = Arrivals(), random.Random(seed), 100.0
    for index in range(round(seconds * rate)):
        now = 100.0 + index / rate
        arrivals.announced(now, True)
        if infos:
            arrivals.info(now)
        if rng.random() < share:
            arrivals.image(now, 5000.0 + (index + rng.uniform(-jitter, jitter)) / rate if stamped else 0.0)
    text, certain = arrivals.loss(now)
    assert certain == bool(text)
    return text


@pytest.mark.parametrize("infos", [True, False])
@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("rate", [5.0, 15.0, 30.0, 90.0])
def test_a_camera_that_arrives_gives_no_reason_to_complain(infos, stamped, rate):
    assert filmed(1.0, infos=infos, stamped=stamped, rate=rate) == ""
    assert filmed(0.95, infos=infos, stamped=stamped, rate=rate) == ""


def test_a_camera_of_which_hardly_anything_arrives_is_counted_against_its_camera_info():
    """One image in 180 of 640 x 480 arrived on Fast DDS, and the node asked to check camera and clock."""
    assert filmed(1 / 180, infos=True, seed=2) == "1 of some 91 images arrived in 3 s"
    assert filmed(0.0, infos=True) == "0 of some 91 images arrived in 3 s"


@pytest.mark.parametrize("seed", range(5))
def test_without_camera_info_the_gaps_between_stamps_tell(seed):
    """On Cyclone half of the images of 1280 x 720 arrived."""
    words = filmed(0.45, seed=seed).split()
    received, sent = int(words[0]), int(words[3])
    assert 20 <= received <= 60
    assert sent == pytest.approx(90, rel=0.15)


def test_irregular_stamps_are_no_loss():
    assert all(filmed(1.0, seed=seed, jitter=0.2) == "" for seed in range(20))


def test_nothing_at_all_is_said_in_words_and_not_before_somebody_is_there():
    arrivals = Arrivals()
    arrivals.announced(0.0, False)
    assert arrivals.loss(60.0) == ("", False), "no camera is another matter"
    arrivals.announced(60.0, True)
    assert arrivals.loss(60.0 + WINDOW - 0.1) == ("", False), "too early"
    assert arrivals.loss(60.0 + WINDOW) == ("announced, but none arrives", False), "maybe nothing is published"
    arrivals.announced(70.0, False)
    arrivals.announced(71.0, True)
    assert arrivals.loss(72.0) == ("", False), "a driver that starts again gets the same time"


def test_what_helps_depends_on_middleware_and_publisher():
    fast = cure("rmw_fastrtps_cpp", reliable=False, size=921_600)
    assert "rmem_max" in fast, "the node hears by sockets"
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in fast, "or by shared memory, where the user wants it so"
    assert "fastdds.xml" in fast
    assert "reliably" in fast
    assert "0.9 MB each, 15 fragments" in fast
    assert fast.startswith("Images get lost")
    assert cure("rmw_fastrtps_cpp", False, 0, certain=False).startswith("Nothing is published, or")
    assert "reliably" not in cure("rmw_fastrtps_cpp", reliable=True, size=921_600), "it does already"
    assert "rmem_max" in cure("rmw_cyclonedds_cpp", reliable=True, size=0)
    assert "network" in cure("rmw_zenoh_cpp", reliable=False, size=0)
