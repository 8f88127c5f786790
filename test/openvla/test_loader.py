"""Loading: what is saved comes back, and everything that does not fit is refused by name."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spec_vla_ros.errors import CheckpointError, NonFiniteError, SelfCheckError, StatisticsError
from spec_vla_ros.openvla.example import example_config, example_model, write_example_checkpoint
from spec_vla_ros.openvla.loader import check_loaded, load_model

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def edit_json(path, **changes):
    """Change top-level entries of a JSON file; None removes one."""
    data = json.loads(path.read_text())
    data.update(changes)
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def edit_weights(folder, edit):
    """Let ``edit`` change the dictionary of tensors."""
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def split(folder, shards=3):
    """Turn the single file into shards with an index; returns the shard names."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    weight_map = {key: names[i % shards] for i, key in enumerate(sorted(tensors))}
    for name in names:
        save_file({key: tensors[key] for key, at in weight_map.items() if at == name}, folder / name)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))
    return names


def same_weights(model, other):
    """Whether two models have equal tensors under equal names."""
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_saved_model_comes_back(written):
    loaded = load_model(written)
    assert same_weights(loaded.model, example_model())
    assert loaded.config == example_config()
    assert loaded.statistics.key == "example"
    assert loaded.statistics.action_dim == 7
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.model.dtype == torch.float32


def test_a_loaded_model_can_be_saved_again(written, tmp_path):
    from spec_vla_ros.openvla.checkpoint import save_checkpoint
    from spec_vla_ros.openvla.example import example_statistics

    loaded = load_model(written)
    again = save_checkpoint(loaded.model, tmp_path / "again", example_statistics(), loaded.prompt.tokenizer)
    assert same_weights(load_model(again, dtype=torch.bfloat16).model, load_model(written, dtype=torch.bfloat16).model)


def test_bfloat16_runs(written):
    loaded = load_model(written, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("towers", [1, 2])
def test_one_and_two_towers(tmp_path, towers):
    folder = write_example_checkpoint(tmp_path / "model", example_config(towers=towers))
    assert len(load_model(folder).config.towers) == towers


def test_shards(folder):
    split(folder)
    assert same_weights(load_model(folder).model, example_model())


def test_a_missing_shard_is_named(folder):
    names = split(folder)
    (folder / names[1]).unlink()
    with pytest.raises(CheckpointError, match=names[1]):
        load_model(folder)


def test_an_index_that_promises_absent_keys(folder):
    names = split(folder)
    data = json.loads((folder / INDEX).read_text())
    data["weight_map"]["projector.fc9.weight"] = names[0]
    (folder / INDEX).write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"projector\.fc9\.weight"):
        load_model(folder)


def test_a_half_written_index(folder):
    split(folder)
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text[: len(text) // 2])
    with pytest.raises(CheckpointError, match=INDEX):
        load_model(folder)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file(folder, part):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: int(part * len(data))])
    with pytest.raises(CheckpointError, match="truncated"):
        load_model(folder)


def test_unknown_missing_and_wrong_shaped_keys_are_listed_together(folder):
    def damage(tensors):
        tensors["language_model.model.layers.0.mystery"] = torch.zeros(2)
        del tensors["projector.fc1.bias"]
        tensors["projector.fc2.bias"] = torch.zeros(3)

    edit_weights(folder, damage)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    for part in ("1 unknown: language_model.model.layers.0.mystery", "1 missing: projector.fc1.bias", "fc2.bias (3,)"):
        assert part in str(caught.value)


def test_dead_weights_of_published_files_are_dropped(folder):
    def add(tensors):
        tensors["vision_backbone.featurizer.norm.weight"] = torch.ones(32)
        tensors["vision_backbone.featurizer.blocks.2.attn.qkv.weight"] = torch.ones(96, 32)
        tensors["vision_backbone.fused_featurizer.attn_pool.latent"] = torch.ones(1, 1, 32)
        tensors["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    edit_weights(folder, add)
    assert same_weights(load_model(folder).model, example_model())


def test_a_block_beyond_the_last_is_unknown(folder):
    name = "vision_backbone.featurizer.blocks.3.attn.qkv.weight"
    edit_weights(folder, lambda tensors: tensors.update({name: torch.ones(96, 32)}))
    with pytest.raises(CheckpointError, match=r"unknown: .*blocks\.3"):
        load_model(folder)


def test_layer_scale_under_the_name_of_training_files(folder):
    def rename(tensors):
        for key in [key for key in tensors if key.endswith(".scale_factor")]:
            tensors[key.replace(".scale_factor", ".gamma")] = tensors.pop(key)

    edit_weights(folder, rename)
    assert same_weights(load_model(folder).model, example_model())


def test_integer_weights_are_refused(folder):
    edit_weights(folder, lambda t: t.update({"projector.fc1.bias": t["projector.fc1.bias"].to(torch.int8)}))
    with pytest.raises(CheckpointError, match="int8"):
        load_model(folder)


def test_statistics_without_weights(folder):
    # Fine-tuning writes the statistics before the first weights, so half-finished folders look like this.
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="weights are missing"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_model(folder)


def test_prismatic_training_files_are_recognised(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-1.pt").touch()
    with pytest.raises(CheckpointError, match="Prismatic"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="Prismatic"):
        load_model(tmp_path / "checkpoints" / "step-1.pt")


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "just-a-name", "a/b/c"])
def test_a_path_that_does_not_exist(name):
    with pytest.raises(CheckpointError, match=f"no folder {name}"):
        load_model(name)


def test_a_tokenizer_is_needed(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_model(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_model(folder)


def test_statistics_of_the_folder_replace_those_of_the_config(folder):
    key = json.loads((folder / "dataset_statistics.json").read_text())["example"]
    edit_json(folder / "config.json", norm_stats={"base": key, "other": key})
    assert load_model(folder).statistics.key == "example"
    (folder / "dataset_statistics.json").unlink()
    with pytest.raises(StatisticsError, match="base, other"):
        load_model(folder)
    assert load_model(folder, unnorm_key="other").statistics.key == "other"


def make_adapter(folder, base, **changes):
    """A LoRA adapter of rank 2 on two matrices; returns its matrices."""
    generator = torch.Generator().manual_seed(3)
    names = ("language_model.model.layers.1.mlp.up_proj", "vision_backbone.featurizer.blocks.0.attn.qkv")
    shapes = {names[0]: (64, 32), names[1]: (96, 32)}
    tensors = {}
    for name, (rows, columns) in shapes.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(2, columns, generator=generator)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(rows, 2, generator=generator)
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(base), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    save_file(tensors, folder / "adapter_model.safetensors")
    return names, tensors


def test_an_adapter_is_not_merged_into_quantised_weights(written, tmp_path):
    make_adapter(tmp_path / "adapter", written)
    with pytest.raises(CheckpointError, match="save the merged model"):
        load_model(tmp_path / "adapter", dtype="int8_weights")


def test_an_adapter_is_merged_into_its_base(written, tmp_path):
    names, tensors = make_adapter(tmp_path / "adapter", written)
    merged, base = load_model(tmp_path / "adapter").model.state_dict(), example_model().state_dict()
    for name, tensor in base.items():
        module = name.removesuffix(".weight")
        if module in names:
            down, up = (tensors[f"base_model.model.{module}.lora_{side}.weight"] for side in "AB")
            tensor = tensor + 2 * up @ down
        torch.testing.assert_close(merged[name], tensor)


@pytest.mark.parametrize("change", [{"use_dora": True}, {"use_rslora": True}, {"bias": "all"}, {"peft_type": "IA3"}])
def test_other_kinds_of_adapters_are_refused(written, tmp_path, change):
    make_adapter(tmp_path / "adapter", written, **change)
    with pytest.raises(CheckpointError, match="only plain LoRA"):
        load_model(tmp_path / "adapter")


@pytest.mark.parametrize(
    "start", ["pissa", "pissa_niter_16", "PiSSA", "olora", "corda", "loftq", "lora_ga", "of_tomorrow", ["pissa"]]
)
def test_an_adapter_whose_initialisation_changed_the_base_is_refused(written, tmp_path, start):
    """It was added to the whole base, although it was trained on what its initialisation had left of it."""
    make_adapter(tmp_path / "adapter", written, init_lora_weights=start)
    with pytest.raises(CheckpointError, match=r"init_lora_weights .* changed the base model"):
        load_model(tmp_path / "adapter")


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "Gaussian", "eva", "orthogonal"])
def test_an_initialisation_that_left_the_base_alone_makes_no_difference(written, tmp_path, start):
    make_adapter(tmp_path / "plain", written)
    make_adapter(tmp_path / "adapter", written, init_lora_weights=start)
    assert same_weights(load_model(tmp_path / "adapter").model, load_model(tmp_path / "plain").model)


@pytest.mark.parametrize(
    "change",
    [
        {"modules_to_save": ["lm_head"]}, {"rank_pattern": {"q_proj": 4}}, {"alpha_pattern": {"q_proj": 4}},
        {"lora_bias": True}, {"layer_replication": [[0, 1]]}, {"trainable_token_indices": [5]},
        {"target_parameters": ["w"]}, {"fan_in_fan_out": True}, {"use_qalora": True},
    ],
)  # fmt: skip
def test_what_changes_the_sum_of_an_adapter_is_refused_by_name(written, tmp_path, change):
    make_adapter(tmp_path / "adapter", written, **change)
    with pytest.raises(CheckpointError, match=f"the adapter sets {next(iter(change))}"):
        load_model(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 4}, "has rank 2, adapter_config.json says 4"),
        ({"r": 0}, "rank 0"),
        ({"r": None}, "rank None"),
        ({"lora_alpha": "4"}, "alpha '4'"),
    ],
)
def test_a_rank_that_is_not_that_of_the_matrices_is_refused(written, tmp_path, change, message):
    """The factor alpha / r was that of another rank."""
    make_adapter(tmp_path / "adapter", written, **change)
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "adapter")


def test_an_adapter_that_cannot_be_merged_is_refused_before_the_weights_are_read(written, tmp_path, monkeypatch):
    monkeypatch.setattr("spec_vla_ros.openvla.loader.load_weights", lambda *_: pytest.fail("minutes of reading"))
    make_adapter(tmp_path / "adapter", written, init_lora_weights="pissa")
    with pytest.raises(CheckpointError, match="pissa"):
        load_model(tmp_path / "adapter")


def test_an_adapter_of_another_model_is_refused(tmp_path):
    base = write_example_checkpoint(tmp_path / "wide", example_config(width=48))
    make_adapter(tmp_path / "adapter", base)
    with pytest.raises(CheckpointError, match="fits no weight"):
        load_model(tmp_path / "adapter")


def test_a_model_that_ignores_the_image_is_refused(folder):
    def blind(tensors):
        tensors["projector.fc3.weight"].zero_()

    edit_weights(folder, blind)
    with pytest.raises(SelfCheckError, match="ignores the image"):
        load_model(folder)


def test_a_model_that_ignores_the_instruction_is_refused(written):
    loaded = load_model(written)
    fixed = replace(loaded, prompt=type("Deaf", (), {"ids": staticmethod(lambda instruction: [1, 300, 5])})())
    with pytest.raises(SelfCheckError, match="ignores the instruction"):
        check_loaded(fixed)


def test_non_finite_weights_are_refused(folder):
    edit_weights(folder, lambda t: t["language_model.lm_head.weight"][600].fill_(float("nan")))
    with pytest.raises(NonFiniteError):
        load_model(folder)


def test_the_first_logits_see_image_and_instruction(written):
    loaded = load_model(written)
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    assert loaded.first_logits(image, "pick up the red block").shape == (loaded.config.llama.vocab_size,)
