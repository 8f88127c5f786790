"""The image topic: subscribed as it is published, whoever comes and goes."""

import pytest
from rig import image

RELIABLE, BEST_EFFORT = "RELIABLE", "BEST_EFFORT"


def driver(one, reliability, topic="image"):
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    return one.probe.create_publisher(Image, topic, QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability]))


@pytest.fixture
def empty(rig):
    """A rig without its own camera."""

    def make(**parameters):
        one = rig(**parameters)
        one.camera = lambda: None
        one.probe.destroy_publisher(one.images)
        return one

    return make


def offered(one):
    return one.node._camera.reliability.name


def test_a_reliable_camera_is_heard_reliably_and_a_best_effort_one_beside_it_too(empty, capfd):
    """A best-effort reader got one image in 180 of 640 x 480 from a reliable publisher on Fast DDS."""
    one = empty()
    assert offered(one) == BEST_EFFORT, "which hears everybody, until somebody is there"
    first = driver(one, RELIABLE)
    one.until(lambda: offered(one) == RELIABLE and first.get_subscription_count() == 1, what="a reliable subscription")
    second = driver(one, BEST_EFFORT)
    one.until(lambda: offered(one) == BEST_EFFORT and second.get_subscription_count() == 1, what="one for both")
    one.probe.destroy_publisher(second)
    one.until(lambda: offered(one) == RELIABLE)
    one.probe.destroy_publisher(first)
    one.until(lambda: not one.node.get_publishers_info_by_topic("image"))
    one.node._camera.look()
    assert offered(one) == RELIABLE, "nobody is no reason to change"
    said = capfd.readouterr().err
    assert "No messages will be received" not in said, "it is subscribed anew"


def test_a_driver_that_starts_again_with_another_quality_of_service_is_heard(empty):
    one = empty(first_image_timeout=30.0, image_timeout=5.0, instruction="go").activate()
    for reliability in (RELIABLE, BEST_EFFORT, RELIABLE):
        before, one.images = one.node._cycle.counters.frames, driver(one, reliability)
        one.camera = lambda: image(one.now())
        one.until(lambda before=before: one.node._cycle.counters.frames > before + 5, what=f"{reliability} images")
        one.camera = lambda: None
        one.probe.destroy_publisher(one.images)
    assert one.node._cycle.fault is None


def test_images_that_are_announced_and_do_not_arrive_are_told_with_the_setting_that_helps(empty, monkeypatch):
    """The node said to check camera, clock and network while the middleware lost what the camera published."""
    from sensor_msgs.msg import CameraInfo

    from spec_vla_ros.node import camera

    monkeypatch.setattr(camera, "middleware", lambda: "rmw_fastrtps_cpp")
    one = empty(first_image_timeout=1.0)
    silent, infos = driver(one, BEST_EFFORT), one.probe.create_publisher(CameraInfo, "camera_info", 5)
    one.probe.create_timer(1 / 30, lambda: infos.publish(CameraInfo()))
    one.activate()
    one.until_fault("NO_IMAGE")
    one.until(lambda: "FASTRTPS_DEFAULT_PROFILES_FILE" in one.control().get("remedy", ""), what="what helps")
    said = one.control()
    assert said["images lost"].startswith("0 of some ")
    assert "best effort" in said["images lost"]
    silent.publish(image(one.now(), height=480, width=640))
    one.until(lambda: "0.9 MB each" in one.control()["images lost"], what="the size of the images")


@pytest.mark.usefixtures("ros")
@pytest.mark.parametrize(("image", "info"), [("/front/image_raw", "/front/camera_info"), ("/image", "/camera_info")])
def test_camera_info_is_looked_for_beside_the_image(image, info):
    """Also where the image is remapped into another namespace than the node's."""
    from types import SimpleNamespace

    from spec_vla_ros.node.camera import Camera

    topics = []
    node = SimpleNamespace(
        resolve_topic_name=lambda name: image,
        create_subscription=lambda kind, topic, *_, **__: topics.append((kind.__name__, topic)),
        create_timer=lambda *_, **__: None,
        get_clock=lambda: None,
    )
    Camera(node, "compressed", None, None)
    assert topics == [("CompressedImage", f"{image}/compressed"), ("CameraInfo", info)]
