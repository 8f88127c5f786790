"""An environment in which no domain can be joined is one sentence.

A peer whose name means no address ended the process in C, with a core dump and without a word of ours; settings that
Cyclone does not like were "Non specific error", and a path with an umlaut was a UnicodeEncodeError.
"""

import itertools
import logging

import pytest

from spec_vla_ros.embedded_ros import surroundings, wire
from spec_vla_ros.embedded_ros.surroundings import SettingsError

LOOP = "127.0.0.1"
_domains = itertools.count(150)  # that no other test uses; a refused one is not joined


def settings(body):
    return f"<CycloneDDS><Domain>{body}</Domain></CycloneDDS>"


@pytest.fixture
def join(monkeypatch):
    """Join a fresh domain with these variables."""

    def attempt(**variables):
        for name in (surroundings.URI, surroundings.PEERS):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return wire.Wire(next(_domains))

    return attempt


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        ("no.such.host.invalid", "means no IPv4 address on this machine"),
        ("127.0.0.1;no.such.host.invalid", "'no.such.host.invalid' means no"),
        ("::1", "'::1' means no IPv4 address"),
        ("a'b", "means no IPv4 address"),
        ("x" * 300, "means no IPv4 address"),
        (f"{LOOP}:99999", "is no host and no host:port"),
        (f"{LOOP}:0", "is no host and no host:port"),
        (f"{LOOP}:x", "is no host and no host:port"),
        ("a,b", "means no IPv4 address"),
    ],
)
def test_a_peer_that_means_no_address_is_named(join, peer, reason):
    with pytest.raises(SettingsError, match=r"^ROS_STATIC_PEERS: ") as refused:
        join(ROS_STATIC_PEERS=peer)
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_peer_in_the_settings_that_means_no_address_does_not_end_the_process(join, tmp_path, capfd):
    path = tmp_path / "cyclone.xml"
    path.write_text(settings("<Discovery><Peers><Peer Address='no.such.host.invalid'/></Peers></Discovery>"))
    with pytest.raises(SettingsError, match=r"^CYCLONEDDS_URI: .*no\.such\.host\.invalid: unknown address"):
        join(CYCLONEDDS_URI=f"file://{path}")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("file:///no/such/settings.xml", "can't open configuration file file:///no/such/settings.xml"),
        ("hello", "can't open configuration file hello"),
        ("/no/such/größe.xml", "größe.xml"),
        (settings("<NoSuchThing/>"), "NoSuchThing: unknown element"),
        (settings("<Größe/>"), "unknown element"),
        (settings("<General"), "Domain"),
        (settings("<General><Interfaces><NetworkInterface name='eth77'/></Interfaces></General>"), "eth77: does not"),
        (settings("<Discovery><MaxAutoParticipantIndex>x</MaxAutoParticipantIndex></Discovery>"), "x: "),
        ("/etc", "'/etc' is a folder, expected an XML file or XML"),
    ],
)
def test_settings_that_cyclone_refuses_are_one_sentence(join, uri, reason, capfd):
    with pytest.raises(SettingsError, match=r"^CYCLONEDDS_URI: ") as refused:
        join(CYCLONEDDS_URI=uri)
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert capfd.readouterr().err == "", "Cyclone's own words are in the sentence"


def test_an_unknown_interface_is_told_with_those_that_there_are(join):
    with pytest.raises(SettingsError, match=r"interfaces here: .*\blo\b"):
        join(CYCLONEDDS_URI=settings("<General><Interfaces><NetworkInterface name='x'/></Interfaces></General>"))


def test_settings_in_any_letters_are_taken(join, tmp_path):
    path = tmp_path / "größe.xml"
    path.write_text(settings("<!-- Größe --><Discovery><Tag>größe</Tag></Discovery>"), encoding="utf-8")
    assert join(CYCLONEDDS_URI=f"file://{path}").participant.guid
    assert join(CYCLONEDDS_URI=settings("<Discovery><Tag>größe</Tag></Discovery>")).participant.guid


def test_good_peers_are_joined_and_lists_may_have_holes(join):
    assert join(ROS_STATIC_PEERS=f" localhost ;; {LOOP}:7412").participant.guid
    assert join(CYCLONEDDS_URI=" , ").participant.guid


def test_a_file_in_another_encoding_does_not_end_the_process(join, tmp_path):
    """It was read as UTF-8 to look for interfaces."""
    path = tmp_path / "latin.xml"
    path.write_bytes(settings("<!-- gr\xf6sse -->").encode("latin-1"))
    assert join(CYCLONEDDS_URI=str(path)).participant.guid


@pytest.mark.parametrize("text", ["233", "-1", "x", "1.0", "9" * 5000, "²", "٣"])
def test_a_domain_out_of_range_is_named(text):
    with pytest.raises(SettingsError, match=r"ROS_DOMAIN_ID must be a number in 0\.\.232, not ") as refused:
        surroundings.domain_id({"ROS_DOMAIN_ID": text})
    assert len(str(refused.value)) < 250


def test_domains():
    assert surroundings.domain_id({}) == surroundings.domain_id({"ROS_DOMAIN_ID": ""}) == 0
    assert surroundings.domain_id({"ROS_DOMAIN_ID": "232"}) == 232
    assert surroundings.domain_id({"ROS_DOMAIN_ID": "232"}, 7) == 7
    with pytest.raises(SettingsError, match="not '233'"):
        surroundings.domain_id({}, 233)


def test_an_unknown_range_is_told_and_known_ones_are_not():
    """It means LOCALHOST, and nobody was told why there was nobody."""
    assert surroundings.odd_range({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNETS"}).startswith(
        "ROS_AUTOMATIC_DISCOVERY_RANGE is 'SUBNETS', expected one of SUBNET, LOCALHOST, OFF, SYSTEM_DEFAULT"
    )
    for text in ("", "subnet", "LOCALHOST", "OFF", "SYSTEM_DEFAULT"):
        assert surroundings.odd_range({"ROS_AUTOMATIC_DISCOVERY_RANGE": text}) == ""


def test_what_cyclone_says_without_refusing_still_reaches_standard_error(capfd):
    import os

    assert surroundings.attempt(lambda: os.write(2, b"a warning\n"), (ValueError,)) == 10
    assert capfd.readouterr().err == "a warning\n"
    logging.getLogger().debug("and standard error is again what it was")
