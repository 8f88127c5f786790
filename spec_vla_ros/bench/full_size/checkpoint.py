"""A checkpoint of the published shapes with random weights, in a folder that goes away again.

The weights repeat the same sixteen million numbers, cut at another place for every tensor: drawing seven thousand
million would take longer than everything else here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from tokenizers import Tokenizer

from spec_vla_ros.errors import CommandError
from spec_vla_ros.openvla.checkpoint import CONFIG_FILE, PREPROCESSOR_FILE, STATISTICS_FILE, TOKENIZER_FILE
from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.config_json import config_to_json, preprocessor_to_json
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS, example_statistics
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.prompt import EMPTY_PIECE, LLAMA_EMPTY_ID, LLAMA_VOCABULARY
from spec_vla_ros.openvla.tokenizer_small import build_small_tokenizer
from spec_vla_ros.openvla.weights import INDEX_FILE
from spec_vla_ros.outputs import write_text, writing

NAME, OWNER = "spec_vla_full_size", "written_by"  # of the folder, and of the file in it that has our process's number
SHARD = 2_200_000_000  # bytes, about: seven files, as published
SPARE = 2**30  # bytes that stay free on the disk
DRAWN, STRIDE = 2**24, 7_368_787  # numbers; how far apart two tensors begin in them
STD = 0.02

Shapes = dict[str, tuple[int, ...]]


@contextlib.contextmanager
def full_size_checkpoint(place: Path, config: OpenVLAConfig, say: Callable[[str], None]) -> Iterator[Path]:
    """A checkpoint of ``config`` in a new folder within ``place``, deleted however the block ends.

    One that a killed process has left there is deleted first. Raises :class:`CommandError` where the disk is too small
    or another process works there.
    """
    folder, shapes = place / NAME, tensor_shapes(config)
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
    _take(folder, say)
    try:
        need, free = sum(map(size_of, shapes.values())) + SPARE, shutil.disk_usage(place).free
        if free < need:
            raise CommandError(f"{place}: {free / 1e9:.1f} GB are free on this disk, {need / 1e9:.1f} GB are needed")
        with writing(folder):
            _write(folder, config, shapes, say)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget_files(folder: Path) -> None:
    """Let the system's memory go of the files in ``folder``, so that the next reader takes them from the disk."""
    for path in folder.glob("*.safetensors"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def tensor_shapes(config: OpenVLAConfig) -> Shapes:
    """Of everything that a checkpoint of ``config`` has to hold, by name."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in OpenVLA(config).state_dict().items()}


def size_of(shape: tuple[int, ...]) -> int:
    """Bytes in bfloat16."""
    count = 2
    for n in shape:
        count *= n
    return count


def _take(folder: Path, say: Callable[[str], None]) -> None:
    """Make ``folder`` ours."""
    if folder.exists():
        try:
            owner = int((folder / OWNER).read_text())
        except (OSError, ValueError):
            raise CommandError(f"{folder} is not of this command, which would write there: move it away") from None
        if owner != os.getpid() and Path(f"/proc/{owner}").exists():
            raise CommandError(f"{folder} is in use by process {owner}")
        say(f"deleting what a process that was killed has left in {folder}")
        shutil.rmtree(folder)
    with writing(folder):
        folder.mkdir()
        (folder / OWNER).write_text(f"{os.getpid()}\n")


def _write(folder: Path, config: OpenVLAConfig, shapes: Shapes, say: Callable[[str], None]) -> None:
    for name, data in (
        (CONFIG_FILE, config_to_json(config, torch.bfloat16)),
        (PREPROCESSOR_FILE, preprocessor_to_json(config)),
        (STATISTICS_FILE, example_statistics()),
    ):
        write_text(folder / name, json.dumps(data))
    _tokenizer(config).save(str(folder / TOKENIZER_FILE))
    shards: list[Shapes] = [{}]
    for name, shape in shapes.items():
        if shards[-1] and sum(map(size_of, shards[-1].values())) + size_of(shape) > SHARD:
            shards.append({})
        shards[-1][name] = shape
    drawn = (STD * torch.randn(DRAWN, generator=torch.Generator().manual_seed(0))).bfloat16()
    weight_map = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        weight_map |= dict.fromkeys(shard, file)
        with (folder / file).open("wb") as stream:
            _write_shard(stream, shard, config, drawn)
            stream.flush()
            os.fsync(stream.fileno())
        say(f"written: {file}")
    write_text(folder / INDEX_FILE, json.dumps({"metadata": {}, "weight_map": weight_map}))


def _write_shard(stream: BinaryIO, shard: Shapes, config: OpenVLAConfig, drawn: torch.Tensor) -> None:
    """A safetensors file: the length of a JSON header, the header, the tensors one after the other."""
    header, end = {}, 0
    for name, shape in shard.items():
        start, end = end, end + size_of(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    for i, (name, shape) in enumerate(shard.items()):
        for part in _numbers(name, shape, config, drawn, i * STRIDE % DRAWN):
            stream.write(memoryview(part.view(torch.uint8).numpy()))


def _numbers(
    name: str, shape: tuple[int, ...], config: OpenVLAConfig, drawn: torch.Tensor, at: int
) -> Iterator[torch.Tensor]:
    """The tensor ``name`` in flat pieces: norms are 1, biases 0, and only action tokens have logits."""
    count = size_of(shape) // 2
    if len(shape) == 1:
        yield torch.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=torch.bfloat16)
        return
    if name == "language_model.lm_head.weight":
        head = torch.zeros(shape, dtype=torch.bfloat16)
        first, end = config.action_vocab_end - config.n_action_bins, config.action_vocab_end
        wanted = (end - first) * shape[1]
        head[first:end] = drawn.repeat(-(-wanted // DRAWN))[:wanted].view(-1, shape[1])
        yield head.flatten()
        return
    while count:
        part = drawn[at : at + count]
        yield part
        count, at = count - len(part), 0


def _tokenizer(config: OpenVLAConfig) -> Tokenizer:
    """The small one; in a vocabulary of the size of Llama, with the piece that the prompt insists on in its place."""
    small = json.loads(build_small_tokenizer(EXAMPLE_INSTRUCTIONS).to_str())
    if config.action_vocab_end == LLAMA_VOCABULARY:
        small["model"]["vocab"][EMPTY_PIECE] = LLAMA_EMPTY_ID
    return Tokenizer.from_str(json.dumps(small))
