"""Turns a model folder with pytorch_model.bin (whole or in shards) into one with safetensors, as GPT-J and OPT need.

    python3 -m venv venv && venv/bin/pip install numpy safetensors torch transformers
    venv/bin/python examples/tools/convert_bin.py gpt-j-6b gpt-j-6b-safetensors

Tensors keep their names and types; one that shares its memory with an earlier one (a tied output) is left out. Also
copies config.json, and tokenizer.json, which is made from the vocabulary files where there is none. At most two shards
are in memory at a time.
"""
import argparse
import json
import os
import pathlib
import pickle
import shutil
import sys
import tempfile

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

INDEX = "model.safetensors.index.json"


def fail(sentence):
    print("convert_bin.py: " + " ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)


def bin_files(folder):
    whole, index = folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        fail(f"{folder} has no pytorch_model.bin and no pytorch_model.bin.index.json")
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        fail(f"{index} has no weight_map")
    if not all(isinstance(name, str) and name == os.path.basename(name) for name in names):
        fail(f"{index} has a shard that is no file name")
    return [folder / name for name in sorted(names)]


def read_tensors(file):
    """Of a file in torch's newer format only what is used is read."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(file, map_location="cpu", weights_only=True)


def distinct_tensors(file):
    seen = set()
    output_last = lambda item: item[0] == "lm_head.weight"  # so that of a tied pair the embeddings stay
    tensors = read_tensors(file)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ValueError("it holds something else than tensors by name")
    for name, tensor in sorted(tensors.items(), key=output_last):
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() > 0 and place in seen:
            continue
        seen.add(place)
        yield name, tensor


class ShardWriter:
    """Writes tensors into shards of at most `limit` bytes, as long as one tensor is not larger."""

    def __init__(self, folder, limit):
        self.folder, self.limit = folder, limit
        self.pending, self.pending_bytes = {}, 0
        self.parts, self.total_bytes = [], 0  # names of the tensors in each shard written

    def add(self, name, tensor):
        size = tensor.numel() * tensor.element_size()
        if self.pending and self.pending_bytes + size > self.limit:
            self.flush()
        # Cloned, so that no two tensors share a storage, which safetensors refuses.
        self.pending[name] = tensor.clone(memory_format=torch.contiguous_format)
        self.pending_bytes += size
        self.total_bytes += size

    def flush(self):
        save_file(self.pending, self.folder / f"{len(self.parts)}.part", {"format": "pt"})
        self.parts.append(list(self.pending))
        self.pending, self.pending_bytes = {}, 0

    def finish(self):
        self.flush()
        weight_map = {}
        for number, names in enumerate(self.parts):
            file = f"model-{number + 1:05d}-of-{len(self.parts):05d}.safetensors"
            os.rename(self.folder / f"{number}.part", self.folder / file)
            weight_map |= {name: file for name in names}
        index = {"metadata": {"total_size": self.total_bytes}, "weight_map": weight_map}
        (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def save_tokenizer(source, target):
    if (source / "tokenizer.json").exists():
        shutil.copy(source / "tokenizer.json", target)
    else:
        AutoTokenizer.from_pretrained(source, use_fast=True).backend_tokenizer.save(str(target / "tokenizer.json"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=pathlib.Path, help="folder with config.json, tokenizer and pytorch_model.bin")
    parser.add_argument("target", type=pathlib.Path, help="where the model goes; made whole or not at all")
    parser.add_argument("--shard-bytes", type=int, default=2 << 30, help="size of a shard (2 GiB)")
    arguments = parser.parse_args()
    if not (arguments.source / "config.json").is_file():
        fail(f"{arguments.source} has no config.json")
    if os.path.lexists(arguments.target):
        fail(f"{arguments.target} is already there")

    files = bin_files(arguments.source)
    parent = arguments.target.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot make the folder {parent}: {error.strerror}")
    with tempfile.TemporaryDirectory(dir=parent) as scratch:
        made = pathlib.Path(scratch) / "model"
        made.mkdir()
        writer = ShardWriter(made, arguments.shard_bytes)
        for file in files:
            if not file.is_file():
                fail(f"there is no file {file}")
            try:
                for name, tensor in distinct_tensors(file):
                    writer.add(name, tensor)
            except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
                fail(f"cannot convert {file}: {(str(error) or type(error).__name__).splitlines()[0]}")
        writer.finish()
        shutil.copy(arguments.source / "config.json", made)
        try:
            save_tokenizer(arguments.source, made)
        except Exception as error:  # the packages raise whatever a damaged vocabulary leads them to
            fail(f"{arguments.source} has no tokenizer that can be read: {(str(error) or '?').splitlines()[0]}")
        os.rename(made, arguments.target)


if __name__ == "__main__":
    main()
