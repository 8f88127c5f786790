"""Settings that this machine cannot carry out, named before anything is read."""

import pytest
import torch

from spec_vla_ros.cli import main
from spec_vla_ros.errors import ConfigurationError
from spec_vla_ros.node.policy_factory import load_openvla
from spec_vla_ros.openvla import precisions
from spec_vla_ros.openvla.devices import named_device, use_threads
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.precisions import beside, missing, named_precision
from spec_vla_ros.openvla.quantize import Int4Weights

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize("name", ["foo", "", "cuda:x", "cpu:-2", "CPU", "x" * 1000])
def test_a_device_that_is_none_is_named(written, name):
    """It was a traceback."""
    with pytest.raises(ConfigurationError, match=r"is no torch device: expected auto, cpu, cuda") as caught:
        load_model(written, device=name)
    assert name[:20] in str(caught.value)
    assert len(str(caught.value)) < 250
    assert caught.value.fault == "CONFIGURATION_INVALID"


@without_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu_blames_neither_checkpoint_nor_index(written, name):
    """The weights were called truncated."""
    with pytest.raises(ConfigurationError, match=f"sees no CUDA device, asked for {name}"):
        load_model(written, device=name)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigurationError, match="this machine has 2, cuda:0 to cuda:1"):
        named_device("cuda:2")


@pytest.mark.parametrize("name", ["meta", "vulkan"])
def test_a_device_that_cannot_compute_here(name):
    with pytest.raises(ConfigurationError, match=f"device {name} "):
        named_device(name)


def test_devices_that_are_there():
    assert named_device("cpu") == named_device(torch.device("cpu")) == torch.device("cpu")
    assert named_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["foo", "bf16", "float64", "x" * 1000])
def test_a_dtype_that_is_none_is_named(written, name):
    """It was taken for a number of bits and ended in a traceback after the weights had been looked at."""
    with pytest.raises(
        ConfigurationError,
        match="is none of auto, float32, bfloat16, float16, float8, int8, int8_weights, int4_weights",
    ):
        load_model(written, dtype=name)


def test_dtypes_that_are_known():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert named_precision("auto", cpu) == (torch.float32, None)
    assert named_precision("auto", gpu) == (torch.bfloat16, None)
    assert named_precision("float16", cpu) == (torch.float16, None)
    assert named_precision("int4_weights", gpu) == (torch.bfloat16, Int4Weights)
    assert named_precision("int8_weights", cpu)[0] == beside(cpu)


def test_names_of_older_files_are_read_and_what_changed_is_said(caplog):
    """A file that says int8 was written for weights alone: who reads the log shall know what runs now."""
    assert named_precision("int4", torch.device("cuda")) == (torch.bfloat16, Int4Weights)
    assert "int4_weights" in caplog.text
    caplog.clear()
    if not missing("int8", torch.device("cpu")):
        assert named_precision("int8", torch.device("cpu"))[1].precision == "int8"
        assert "int8_weights" in caplog.text


@pytest.mark.parametrize("quick", [True, False])
def test_who_takes_weights_alone_where_int8_is_quicker_is_told(monkeypatch, caplog, quick):
    monkeypatch.setattr(precisions, "computes", lambda name, device: quick)
    assert named_precision("int8_weights", torch.device("cpu"))[1].precision == "int8_weights"
    assert ("int8 takes as little memory" in caplog.text) == quick


@pytest.mark.parametrize(("name", "instead"), [("float8", "bfloat16 or int8"), ("int4_weights", "choose int8")])
def test_what_would_be_slower_than_bfloat16_is_refused_before_the_weights_are_read(folder, name, instead):
    for path in folder.glob("*.safetensors"):
        path.write_bytes(b"not read")
    with pytest.raises(ConfigurationError, match=f"dtype {name} on cpu: .*{instead}"):
        load_model(folder, dtype=name)


def test_threads():
    before = torch.get_num_threads()
    with pytest.raises(ConfigurationError, match="-3 threads: expected 0"):
        use_threads(-3)
    use_threads(0)
    assert torch.get_num_threads() == before
    use_threads(2)
    assert torch.get_num_threads() == 2
    use_threads(before)


def test_a_negative_number_of_threads_is_a_matter_of_usage(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["replay", str(tmp_path), "--cpu-threads", "-3"])
    assert caught.value.code == 2
    assert "expected a whole number from 0 to 256, got '-3'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("device", "foo"), ("dtype", "foo"), ("cpu_threads", -3)])
def test_the_node_says_it_by_name(written, name, value):
    from types import SimpleNamespace

    settings = {"cpu_threads": 0, "device": "cpu", "dtype": "auto", "model": str(written), "unnorm_key": ""}
    settings |= {"revision": "", "base_model": "", "centre_crop": False, "image_resize": "auto"}
    settings |= {"draft_heads": "", "habits_file": "", name: value}
    with pytest.raises(ConfigurationError):
        load_openvla(SimpleNamespace(**settings))
