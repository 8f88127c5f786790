"""``config.json``: defaults, overlay, and refusal of what is not implemented."""

import dataclasses

import pytest
import torch

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.openvla.config import DINOV2_VIT_L, SIGLIP_SO400M, LlamaConfig
from spec_vla_ros.openvla.config_json import (
    check_preprocessor,
    config_from_json,
    config_to_json,
    preprocessor_to_json,
)
from spec_vla_ros.openvla.example import example_config
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.picture import PROCESSOR

PUBLISHED = {
    "model_type": "openvla",
    "architectures": ["OpenVLAForActionPrediction"],
    "auto_map": {"AutoConfig": "configuration_prismatic.OpenVLAConfig"},
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "use_fused_vision_backbone": True,
    "image_sizes": [224, 224],
    "image_resize_strategy": "resize-naive",
    "llm_backbone_id": "llama2-7b-pure",
    "arch_specifier": "no-align+fused-gelu-mlp",
    "pad_token_id": 32000,
    "pad_to_multiple_of": 64,
    "n_action_bins": 256,
    "torch_dtype": "bfloat16",
    "text_config": {"model_type": "llama", "pad_token_id": 32000, "torch_dtype": "bfloat16", "vocab_size": 32064},
}


def changed(text=None, **changes):
    """The published config with changes; ``text`` changes ``text_config``."""
    return {**PUBLISHED, **changes, "text_config": {**PUBLISHED["text_config"], **(text or {})}}


def test_the_published_config():
    config = config_from_json(PUBLISHED)
    assert config.towers == (DINOV2_VIT_L, SIGLIP_SO400M)
    assert config.llama == LlamaConfig()
    assert config.action_vocab_end == 32000


def test_the_published_sizes():
    # 7 541 237 184 parameters in the files, less the dead last blocks, final norms and pooling head.
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in OpenVLA(config_from_json(PUBLISHED)).state_dict().items()}
    assert len(shapes) == 982 - 43
    assert shapes["projector.fc1.weight"] == (8704, 2176)
    assert shapes["vision_backbone.fused_featurizer.blocks.25.mlp.fc1.weight"] == (4304, 1152)
    assert shapes["language_model.model.layers.31.mlp.down_proj.weight"] == (4096, 11008)


def test_version_01_has_one_tower_and_two_projector_layers():
    data = changed(
        vision_backbone_id="siglip-vit-so400m",
        use_fused_vision_backbone=False,
        arch_specifier="no-align+gelu-mlp",
        image_sizes=[224],
        llm_backbone_id="vicuna-v15-7b",
    )
    with torch.device("meta"):
        names = set(OpenVLA(config_from_json(data)).state_dict())
    assert "projector.fc2.weight" in names
    assert "projector.fc3.weight" not in names
    assert not any("fused_featurizer" in name or "scale_factor" in name for name in names)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_resize_strategy", "letterbox"),
        ("llm_backbone_id", "vicuna-v15-7b"),
        ("pad_to_multiple_of", 64),
        ("n_action_bins", 256),
        ("pad_token_id", 32000),
    ],
)
def test_a_missing_field_means_the_references_default(field, value):
    """Without image_resize_strategy, images were stretched where the reference letterboxes them."""
    data = {key: part for key, part in PUBLISHED.items() if key != field}
    assert getattr(config_from_json(data), field) == value


def test_a_missing_backbone_is_the_references_and_must_agree_with_the_rest():
    data = {key: part for key, part in PUBLISHED.items() if key != "vision_backbone_id"}
    with pytest.raises(CheckpointError, match="'siglip-vit-so400m' means"):
        config_from_json(data)
    for key in ("use_fused_vision_backbone", "image_sizes", "arch_specifier"):
        del data[key]
    assert config_from_json(data).towers == (SIGLIP_SO400M,)


def test_a_missing_vocabulary_is_llamas():
    for text in ({"model_type": "llama"}, {}, None):
        config = config_from_json({**PUBLISHED, "text_config": text})
        assert (config.llama.vocab_size, config.action_vocab_end) == (32000, 31936)
    data = {key: part for key, part in PUBLISHED.items() if key != "text_config"}
    assert config_from_json(data).llama == LlamaConfig(vocab_size=32000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_action_bins": None}, "n_action_bins is None, expected a whole number"),
        ({"n_action_bins": "256"}, "n_action_bins is '256', expected a whole number"),
        ({"n_action_bins": True}, "n_action_bins is True"),
        ({"n_action_bins": 1}, "n_action_bins is 1, expected at least 2"),
        ({"pad_to_multiple_of": None}, "pad_to_multiple_of is None"),
        ({"pad_to_multiple_of": -64}, "pad_to_multiple_of is -64"),
        ({"pad_token_id": 1.5}, "pad_token_id is 1.5"),
        ({"llm_backbone_id": None}, "llm_backbone_id is None, expected a name"),
        ({"vision_backbone_id": None}, "vision_backbone_id is None, expected a name"),
        ({"image_resize_strategy": None}, "image_resize_strategy is None"),
        ({"text": {"vocab_size": None}}, "text_config.vocab_size is None"),
        ({"text": {"num_attention_heads": 0}}, "text_config.num_attention_heads is 0"),
        ({"text": {"num_attention_heads": 33}}, "no multiple of num_attention_heads"),
        ({"text": {"rms_norm_eps": float("nan")}}, "text_config.rms_norm_eps is nan"),
        ({"text": {"rope_parameters": [1]}}, r"rope_parameters is \[1\]"),
    ],
)
def test_a_value_that_is_none_is_named(changes, message):
    """They were tracebacks."""
    with pytest.raises(CheckpointError, match=message):
        config_from_json(changed(**changes))
    with pytest.raises(CheckpointError, match="text_config is 3, expected an object"):
        config_from_json({**PUBLISHED, "text_config": 3})


@pytest.mark.parametrize("towers", [1, 2])
def test_round_trip_of_a_small_model(towers):
    config = example_config(towers=towers)
    assert config_from_json(config_to_json(config, torch.bfloat16)) == config
    check_preprocessor(preprocessor_to_json(config), config)


def test_how_a_small_model_was_shown_its_pictures_is_kept_and_must_exist():
    config = dataclasses.replace(example_config(), image_resize=PROCESSOR)
    data = config_to_json(config, torch.bfloat16)
    assert config_from_json(data).image_resize == PROCESSOR
    assert "image_resize" not in config_to_json(example_config(), torch.bfloat16), "as published, where nothing differs"
    with pytest.raises(
        CheckpointError, match=r"image_resize 'best'; supported: \('evaluation', 'lanczos', 'processor'"
    ):
        config_from_json({**data, "image_resize": "best"})


def test_theta_where_newer_libraries_write_it():
    text = {"rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}, "dtype": "bfloat16"}
    assert config_from_json(changed(text)).llama.rope_theta == 5000.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "prismatic"}, "model_type"),
        ({"vision_backbone_id": "dinosiglip-vit-so-384px"}, "dinosiglip-vit-so-384px"),
        ({"vision_backbone_id": "custom-x"}, "vision_towers"),
        ({"use_fused_vision_backbone": False}, "use_fused_vision_backbone"),
        ({"arch_specifier": "no-align+gelu-mlp"}, "arch_specifier"),
        ({"image_sizes": [384, 384]}, "image_sizes"),
        ({"image_resize_strategy": "stretch"}, "stretch"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"text": {"model_type": "mistral"}}, "mistral"),
        ({"text": {"num_key_value_heads": 8}}, "num_key_value_heads"),
        ({"text": {"hidden_act": "gelu"}}, "hidden_act"),
        ({"text": {"attention_bias": True}}, "attention_bias"),
        ({"text": {"tie_word_embeddings": True}}, "tie_word_embeddings"),
        ({"text": {"rope_scaling": {"type": "linear", "factor": 2}}}, "rope_scaling"),
        ({"text": {"head_dim": 64}}, "head_dim"),
        ({"text": {"vocab_size": 300}}, "no room"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(changes, message):
    with pytest.raises(CheckpointError, match=message):
        config_from_json(changed(**changes))


@pytest.mark.parametrize(
    "tower",
    [
        {"width": 30, "heads": 4},
        {"image_size": 57},
        {"depth": 1},
        {"colour": "red"},
        {"heads": 0},
        {"heads": None},
        {"patch_size": "14"},
        {"width": 32.0},
        {"registers": -1},
    ],
)
def test_impossible_towers_are_refused(tower):
    data = config_to_json(example_config(), torch.float32)
    data["vision_towers"][0].update(tower)
    with pytest.raises(CheckpointError):
        config_from_json(data)


def test_a_contradicting_preprocessor_is_refused():
    config = example_config()
    with pytest.raises(CheckpointError, match="means"):
        check_preprocessor({"means": [[0, 0, 0], [0, 0, 0]]}, config)


@pytest.mark.parametrize("size", [-1, 10**30])
def test_a_size_that_no_model_has_is_said_in_our_words(size):
    """torch said it in twenty lines of its own."""
    with pytest.raises(CheckpointError, match=rf"hidden_size is {size}, expected a whole number from 0 to 10000000"):
        config_from_json(changed(text={"hidden_size": size}))
