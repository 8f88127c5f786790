"""Checkpoints, whole and damaged: every problem is told, and one does not hide the next."""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spec_vla_ros.inspection.memory import cache_bytes, eagle_cache_bytes, meta_model, weight_bytes
from spec_vla_ros.openvla.config import DINOV2_VIT_L, SIGLIP_SO400M, LlamaConfig, OpenVLAConfig
from spec_vla_ros.openvla.config_json import config_to_json
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.precisions import QUANTISED
from spec_vla_ros.openvla.weights import load_weights

WEIGHTS, INDEX, STATISTICS = "model.safetensors", "model.safetensors.index.json", "dataset_statistics.json"


def edit_weights(folder, change):
    tensors = load_file(folder / WEIGHTS)
    save_file(change(tensors) or tensors, folder / WEIGHTS)


def split(folder, shards=3):
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    weight_map = {key: names[i % shards] for i, key in enumerate(sorted(tensors))}
    for name in names:
        save_file({key: tensors[key] for key, at in weight_map.items() if at == name}, folder / name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return names


def set_statistics(folder, **keys):
    whole = json.loads((folder / STATISTICS).read_text())["bridge_orig"]["action"]
    data = {key: {"action": {**whole, **changes}} for key, changes in keys.items()}
    (folder / STATISTICS).write_text(json.dumps(data))


def test_a_whole_model_is_described(inspect, tabletop):
    said = inspect(tabletop)
    assert said.status == 0
    assert said.errors == said.warnings == []
    assert "nothing was found that would go wrong" in said.text
    parameters = load_model(tabletop).model.parameter_count
    for part in (
        "8 layers, width 128, 4 heads, vocabulary 832",
        "112 px in 8 x 8 patches, 5 of 6 blocks of width 128 used",
        "112 x 112, resize-naive",
        "any size -> bicubic to 112x112 (image_resize processor)",
        "512..767, 255 bins",
        f"{parameters:,}",
        "stored as bfloat16",
        "tabletop 0.392 x3 1.1 1.1 1.96 3.53 x3 9.88 9.88 17.6 0.2 s",
        "centre_crop",
        "memory, computed from the shapes",
        "vision head",
        "eagle head",
    ):
        assert part in said.text, part


def test_memory_is_what_loading_takes(written):
    loaded = load_model(written)
    for precision in ("float32", "bfloat16", "int8", "int8_weights", "int4_weights"):
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        model = load_weights(written, loaded.config, "cpu", dtype, QUANTISED.get(precision))
        tensors = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer is not None)]
        assert weight_bytes(loaded.config, precision) == sum(tensor.nbytes for tensor in tensors), precision
    from spec_vla_ros.bench.decoding.shapes import random_heads
    from spec_vla_ros.decoding.verifier import Verifier, cache_slots

    verifier = Verifier(loaded.model, loaded.tokens, cache_slots(loaded))
    assert cache_bytes(loaded.config, 7, "float32") == verifier.cache.data.nbytes
    drafter = random_heads(loaded)["eagle"]
    assert eagle_cache_bytes(loaded.config, 7, "float32") == drafter.cache.data.nbytes


def test_one_problem_does_not_hide_the_next(inspect, folder, edit):
    edit(folder / "preprocessor_config.json", image_resize_strategy="letterbox")
    set_statistics(folder, bridge_orig={"q01": [float("nan")] * 7})
    (folder / "tokenizer.json").unlink()
    edit_weights(folder, lambda tensors: {k: v for k, v in tensors.items() if k != "projector.fc1.bias"})
    said = inspect(folder)
    assert said.status == 1
    for part in (
        "image_resize_strategy is 'letterbox'",
        "q01 and q99 must be finite",
        "no tokenizer.json",
        "1 missing: projector.fc1.bias",
    ):
        assert any(part in error for error in said.errors), part
    assert "memory, computed" in said.text


def test_an_impossible_config_leaves_the_rest(inspect, folder, edit):
    edit(folder / "config.json", text_config={"hidden_size": "wide"})
    said = inspect(folder)
    assert said.status == 1
    assert "bridge_orig" in said.text
    assert "stored as float32" in said.text


def test_another_model_is_refused_by_name(inspect, folder, edit):
    edit(folder / "config.json", model_type="llava")
    assert any("'llava', expected 'openvla'" in error for error in inspect(folder).errors)


def test_a_missing_shard_is_named(inspect, folder):
    names = split(folder)
    assert inspect(folder).status == 0
    (folder / names[1]).unlink()
    said = inspect(folder)
    assert said.status == 1
    assert any("lacks 1 of 3 shards" in error and names[1] in error for error in said.errors)
    assert "2, " in said.text
    assert "incomplete" in said.text


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_every_truncated_file_is_told_with_its_size(inspect, folder, share):
    names = split(folder)
    for name in names[:2]:
        size = (folder / name).stat().st_size
        os.truncate(folder / name, int(share * size))
    said = inspect(folder)
    assert said.status == 1
    for name in names[:2]:
        assert sum(name in error and "truncated" in error for error in said.errors) == 1, said.errors
    if share == 0.99:
        assert "(99.0%)" in said.text


def test_an_index_that_names_missing_keys(inspect, folder, edit):
    names = split(folder)
    index = json.loads((folder / INDEX).read_text())
    edit(folder / INDEX, weight_map={**index["weight_map"], "projector.fc9.weight": names[0]})
    assert any("promises: projector.fc9.weight" in error for error in inspect(folder).errors)


def test_no_weights_at_all_and_an_unfinished_download(inspect, folder):
    (folder / WEIGHTS).rename(folder / f"{WEIGHTS}.part")
    said = inspect(folder)
    assert any("the weights are missing" in error for error in said.errors)
    assert any("not finished" in warning for warning in said.warnings)


def test_surprising_types(inspect, folder, edit):
    edit_weights(folder, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    said = inspect(folder)
    assert said.status == 0
    assert any("config.json says float32, the weights are stored as float16" in warning for warning in said.warnings)
    assert "dtype:=float16" in said.text
    edit_weights(folder, lambda t: {**t, "projector.fc1.bias": t["projector.fc1.bias"].double()})
    assert any("in 2 types: float16, float64" in warning for warning in inspect(folder).warnings)
    edit_weights(folder, lambda t: {**t, "projector.fc1.bias": t["projector.fc1.bias"].to(torch.int8)})
    said = inspect(folder)
    assert said.status == 1
    assert any("quantised files are refused" in error and "projector.fc1.bias int8" in error for error in said.errors)


@pytest.mark.parametrize(
    ("changes", "said_what"),
    [
        ({"q01": [0.1] * 7, "q99": [0.0] * 7}, "with q99 >= q01"),
        ({"mask": [True] * 6}, "differ in length"),
        ({"q01": [-0.1] * 3}, "differ in length"),
        ({"q99": [float("inf")] * 7}, "must be finite"),
        ({"q99": "none"}, "unreadable"),
    ],
)
def test_statistics_that_cannot_be(inspect, folder, changes, said_what):
    set_statistics(folder, bridge_orig=changes)
    said = inspect(folder)
    assert said.status == 1
    assert [error for error in said.errors if said_what in error and "bridge_orig" in error] == said.errors


@pytest.mark.parametrize(
    ("changes", "said_what"),
    [
        ({"q01": [-40] * 7, "q99": [40] * 7}, "no step of an arm (m, rad): x 40, y 40, z 40, roll 40"),
        ({"q01": [0.0, *[-0.1] * 6], "q99": [0.0, *[0.1] * 6]}, "never moves: x"),
        ({"mask": [False] * 7}, "not normalised, -1..1 is taken as m or rad: x, y, z, roll, pitch, yaw"),
        ({"mask": [True] * 7, "q01": [-0.1] * 6 + [-1.0]}, "gripper -1..1, the node expects 0 (closed) to 1 (open)"),
    ],
)
def test_absurd_statistics_are_pointed_out(inspect, folder, changes, said_what):
    set_statistics(folder, bridge_orig=changes)
    said = inspect(folder)
    assert said.status == 0
    assert any(said_what in warning for warning in said.warnings), said.warnings


def test_several_keys_need_a_choice(inspect, folder):
    set_statistics(folder, bridge_orig={}, kitchen={"q01": [-0.002] * 7, "q99": [0.002] * 7}, torn={"mask": [True]})
    said = inspect(folder)
    assert "unnorm_key must be set; this checkpoint has: bridge_orig, kitchen, torn" in said.errors
    assert any("'torn'" in error for error in said.errors)
    said = inspect(folder, "--unnorm-key", "bridge_orig")
    assert said.status == 0
    assert any("'torn'" in warning for warning in said.warnings)
    assert any("'kitchen' takes is not known" in error for error in inspect(folder, "--unnorm-key", "kitchen").errors)
    assert inspect(folder, "--unnorm-key", "kitchen", "--step-dt", "0.1").status == 0
    rows = said.facts[str(folder)]["statistics_from_dataset_statistics_json"]["table"]
    steps = {row["key"]: row["mm_per_bin_x_y_z"] for row in rows}
    assert steps["kitchen"] == pytest.approx([4 / 255] * 3, abs=1e-6)
    assert any("not found" in error for error in inspect(folder, "--unnorm-key", "elsewhere").errors)


def test_libero_is_for_the_simulator(inspect, folder):
    set_statistics(folder, libero_goal_no_noops={"q01": [-0.9] * 7, "q99": [0.9] * 7})
    said = inspect(folder, "--unnorm-key", "libero_goal")
    assert said.status == 0
    assert any("controller inputs in -1..1, not metres" in warning for warning in said.warnings)
    assert "set centre_crop:=true" in said.text
    assert "0.05 s" in said.text


def test_the_node_needs_seven_dimensions(inspect, folder):
    set_statistics(folder, bridge_orig={"q01": [-0.1] * 8, "q99": [0.1] * 8, "mask": [True] * 8})
    assert any("8 dimensions, the act node needs 7" in error for error in inspect(folder).errors)


def test_the_file_replaces_the_keys_of_the_config(inspect, folder, edit):
    data = json.loads((folder / STATISTICS).read_text())
    edit(folder / "config.json", norm_stats={"a": {}, "b": {}})
    assert "from dataset_statistics.json (in place of 2 keys in config.json)" in inspect(folder).text
    (folder / STATISTICS).unlink()
    edit(folder / "config.json", norm_stats=data)
    said = inspect(folder)
    assert said.status == 0
    assert "statistics, from config.json" in said.text


def test_another_models_tokenizer(inspect, folder, tabletop, edit):
    data = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = data["model"]["vocab"]
    vocabulary["elsewhere"] = vocabulary.pop("▁")
    data["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(data))
    said = inspect(folder)
    assert any("the tokenizer has no piece '▁'" in error for error in said.errors)
    (folder / "tokenizer.json").write_text("{")
    assert any("tokenizer.json is unreadable" in error for error in inspect(folder).errors)


def test_training_files_are_recognised(inspect, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    file = run / "checkpoints" / "step-000100.pt"
    file.write_bytes(b"x")
    for path in (run, file):
        said = inspect(path)
        assert said.status == 1
        assert "Prismatic training file" in said.text


def test_a_hub_id_is_looked_up_in_the_cache_and_never_fetched(inspect, folder, tmp_path, monkeypatch):
    import socket

    from huggingface_hub import constants

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    said = inspect("somebody/small-vla")
    assert said.status == 1
    assert "not in the local cache" in said.text
    assert "hf download somebody/small-vla" in said.text
    snapshot = tmp_path / "cache" / "models--somebody--small-vla" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    said = inspect("somebody/small-vla")
    assert said.status == 0, said.errors
    assert "2 layers, width 32" in said.text


def test_a_path_from_another_folder_is_no_hub_id(inspect, tmp_path, monkeypatch):
    """Fetching what anyone may have registered under that name was the advice."""
    monkeypatch.chdir(tmp_path)
    said = inspect("models/tabletop")
    assert said.status == 0, said.errors
    assert str(Path(__file__).parents[2] / "models" / "tabletop") in said.text
    assert inspect("models/tabletop/drafters").status == 0
    said = inspect("models/tabeltop")
    assert said.status == 1
    assert "no folder models/tabeltop" in said.text
    assert "hub id models/tabeltop" in said.text
    assert "hf download" not in said.text


@pytest.fixture
def adapter(folder, tmp_path):
    """A LoRA adapter on the example checkpoint."""
    made = tmp_path / "adapter"
    made.mkdir()
    about = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "base_model_name_or_path": str(folder)}
    (made / "adapter_config.json").write_text(json.dumps(about))
    name = "base_model.model.language_model.model.layers.0.self_attn.q_proj"
    tensors = {f"{name}.lora_A.weight": torch.zeros(4, 32), f"{name}.lora_B.weight": torch.zeros(32, 4)}
    save_file(tensors, made / "adapter_model.safetensors")
    return made


def test_an_adapter_brings_its_base_along(inspect, adapter, folder):
    said = inspect(adapter)
    assert said.status == 0
    assert str(folder) in said.text
    assert "rank, alpha 4, 8" in said.text
    assert any("cannot be quantised while it is loaded" in warning for warning in said.warnings)
    load_model(adapter)


def test_an_adapter_of_another_base(inspect, adapter, edit):
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors = {name: torch.zeros(4, 64) if "lora_A" in name else t for name, t in tensors.items()}
    save_file(tensors, adapter / "adapter_model.safetensors")
    edit(adapter / "adapter_config.json", use_dora=True)
    said = inspect(adapter)
    assert any("fit no weight of the base model" in error for error in said.errors)
    assert any("only plain LoRA" in error and "use_dora" in error for error in said.errors)
    edit(adapter / "adapter_config.json", base_model_name_or_path="/nowhere/base")
    assert any("no folder /nowhere/base" in error for error in inspect(adapter).errors)
    edit(adapter / "adapter_config.json", base_model_name_or_path=None)
    assert any("does not name its base model" in error for error in inspect(adapter).errors)


def test_an_adapter_that_changed_its_base_or_has_another_rank(inspect, adapter, edit):
    edit(adapter / "adapter_config.json", init_lora_weights="pissa_niter_4", r=8)
    said = inspect(adapter)
    assert any("init_lora_weights 'pissa_niter_4', which changed the base model" in error for error in said.errors)
    assert any("matrices of rank 4, adapter_config.json says 8" in error for error in said.errors)


def test_a_fine_tune_with_a_head_of_its_own(inspect, folder):
    """Nothing was found that would go wrong."""
    (folder / "action_head--150000_checkpoint.pt").write_bytes(b"x")
    said = inspect(folder)
    assert said.status == 1
    assert any("parts that are not read (action_head: " in error and "OpenVLA-OFT" in error for error in said.errors)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json", STATISTICS])
def test_links_to_nothing_and_git_lfs_pointers(inspect, folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to("../../blobs/abc")
    said = inspect(folder)
    assert said.status == 1
    assert any(f"{name}: a link to nothing (../../blobs/abc)" in error for error in said.errors)
    (folder / name).unlink()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    said = inspect(folder)
    assert said.status == 1
    assert any(f"{name} is a Git LFS pointer" in error for error in said.errors)


def test_a_folder_that_is_a_link_to_nothing(inspect, tmp_path):
    link = tmp_path / "model"
    link.symlink_to("/mnt/not-there/model")
    assert any("is a link to /mnt/not-there/model, which does not exist" in error for error in inspect(link).errors)


def test_a_head_that_is_a_link_to_nothing(inspect, tabletop):
    weights = tabletop / "drafters" / "vision" / "model.safetensors"
    weights.unlink()
    weights.symlink_to("../../blobs/abc")
    said = inspect(tabletop)
    assert said.status == 0, "the model works without"
    assert any("model.safetensors is a link to nothing" in warning for warning in said.warnings)


def test_a_field_that_is_null(inspect, folder, edit):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_action_bins": None}))
    assert any("n_action_bins is None, expected a whole number" in error for error in inspect(folder).errors)


def damage(data, draw):
    """Replace something somewhere in parsed JSON."""
    places = data if isinstance(data, dict) else range(len(data))
    at = draw.choice(sorted(places))
    if isinstance(data[at], (dict, list)) and data[at] and draw.random() < 0.7:
        damage(data[at], draw)
    else:
        data[at] = draw.choice([None, 0, -1, 1e308, float("nan"), "x", [], {}, [1], {"a": 1}, True, 10**12])


@pytest.mark.parametrize("seed", range(24))
def test_whatever_was_edited_the_command_ends_with_a_sentence(inspect, tabletop, seed):
    draw = random.Random(seed)
    files = [path for path in sorted(tabletop.rglob("*")) if path.suffix in (".json", ".safetensors")]
    file = files[seed % len(files)]
    if file.suffix == ".json":
        data = json.loads(file.read_text())
        damage(data, draw)
        file.write_text(json.dumps(data))
    else:
        data = bytearray(file.read_bytes())
        for _ in range(8):
            data[draw.randrange(4000)] = draw.randrange(256)
        file.write_bytes(data)
    said = inspect(tabletop)
    assert said.lines.splitlines()[-1]


def write_hollow(folder, config):
    """A checkpoint of full size whose data are a hole in the file."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_to_json(config, torch.bfloat16)))
    header, end = {}, 0
    for name, parameter in meta_model(config).state_dict().items():
        size = 2 * parameter.numel()
        header[name] = {"dtype": "BF16", "shape": list(parameter.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / WEIGHTS).open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)


def test_seven_billion_weights_stay_on_disk(tmp_path):
    """As large as OpenVLA-7B; what is read fits a small machine, whatever the weights are."""
    write_hollow(tmp_path / "large", OpenVLAConfig((DINOV2_VIT_L, SIGLIP_SO400M), LlamaConfig()))
    code = (
        "import sys; from spec_vla_ros.cli import main; from spec_vla_ros.machine import peak_memory\n"
        "status = main(['inspect', sys.argv[1]]); print('peak:', peak_memory()); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "7.50 G used" in done.stdout, done.stdout + done.stderr
    assert "bfloat16 15.0 GB 302 MB 0 B 15.3 GB" in " ".join(done.stdout.split())
    assert done.returncode == 1, "there is no tokenizer"
    assert int(done.stdout.rpartition("peak:")[2]) < 800e6


# -- which revision


def cached(folder, cache, name, commits):
    """A repository as the hub's cache holds it: commits, and the branches that point to them."""
    home = cache / f"models--{name.replace('/', '--')}"
    for branch, commit in commits.items():
        shutil.copytree(folder, home / "snapshots" / commit)
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / branch).write_text(commit)


def test_the_revision_that_was_asked_for_is_the_one_that_is_inspected(inspect, folder, tmp_path, monkeypatch):
    """It could not be said, so that main was inspected whatever the node would be told."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    commits = {"main": "a" * 40, "tuned": "b" * 40}
    cached(folder, tmp_path / "cache", "someone/example", commits)
    (tmp_path / "cache/models--someone--example/snapshots" / commits["tuned"] / "tokenizer.json").unlink()
    said = inspect("someone/example")
    assert (said.status, f"revision:={commits['main']}" in said.text) == (0, True)
    for revision in ("tuned", commits["tuned"]):
        said = inspect("someone/example", "--revision", revision)
        assert f"revision:={commits['tuned']}" in said.text
        assert any("tokenizer" in error for error in said.errors)
    said = inspect("someone/example", "--revision", "other")
    assert "hf download someone/example --revision other" in said.text


def test_a_revision_means_nothing_to_a_folder(inspect, folder):
    said = inspect(folder, "--revision", "main")
    assert said.status == 0
    assert any("revision main has no effect" in warning for warning in said.warnings)
