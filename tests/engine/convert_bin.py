"""Tiny .bin checkpoints, converted: every tensor is the same bits, tied ones are there once, damage gives a sentence.

    python tests/engine/convert_bin.py [CASCADA_EVALUATE]

in an environment with torch and transformers, as tests/engine/torch.sh has it. With the program it also runs the converted
models.
"""
import contextlib
import io
import json
import pathlib
import runpy
import subprocess
import sys
import tempfile
import types

import torch
from safetensors.torch import load_file
from transformers import GPTJConfig, GPTJForCausalLM, OPTConfig, OPTForCausalLM

CONVERTER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "tools" / "convert_bin.py"


def convert(source, target, *options):
    """As a program of its own, but in this process: each would take seconds to import torch."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    arguments, sys.argv = sys.argv, [str(word) for word in (CONVERTER, source, target, *options)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(CONVERTER), run_name="__main__")
    except SystemExit as left:
        code = left.code or 0
    finally:
        sys.argv = arguments
    return types.SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def refused(words, *arguments):
    result = convert(*arguments)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and words in result.stderr, result


def write_vocabulary(folder):
    """Byte-level BPE without merges, as GPT-2, GPT-J and OPT publish it."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>"] + [chr(code) for code in range(33, 127)]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))


def write_opt(folder):
    """Shards, F16, output tied to the embeddings."""
    config = OPTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, ffn_dim=40, vocab_size=98,
                       max_position_embeddings=64, word_embed_proj_dim=24)
    weights = OPTForCausalLM(config).half().state_dict()
    names = sorted(weights)  # the tied pair is in the first shard, the output before the embeddings
    parts = {"pytorch_model-00001-of-00002.bin": [name for name in names if "layers" not in name],
             "pytorch_model-00002-of-00002.bin": [name for name in names if "layers" in name]}
    for file, part in parts.items():
        torch.save({name: weights[name] for name in part}, folder / file)
    where = {name: file for file, part in parts.items() for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    return config, weights


def write_gptj(folder):
    """One file in torch's older format, BF16, with the buffers that GPT-J's own file holds."""
    config = GPTJConfig(n_embd=24, n_layer=2, n_head=3, rotary_dim=4, vocab_size=98, n_positions=64, bos_token_id=2,
                        eos_token_id=2)
    weights = GPTJForCausalLM(config).bfloat16().state_dict()
    for layer in range(config.n_layer):
        weights[f"transformer.h.{layer}.attn.bias"] = torch.ones(64, 64, dtype=torch.uint8).tril().view(1, 1, 64, 64)
        weights[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9)
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    return config, weights


def check(scratch, write, left_out, evaluate):
    source, target = scratch / write.__name__, scratch / (write.__name__ + "-converted")
    source.mkdir()
    write_vocabulary(source)
    config, weights = write(source)
    (source / "config.json").write_text(json.dumps(config.to_dict()))
    result = convert(source, target, "--shard-bytes", "10000")
    assert result.returncode == 0, result.stderr

    index = json.loads((target / "model.safetensors.index.json").read_text())["weight_map"]
    shards = {file: load_file(target / file) for file in set(index.values())}
    assert len(shards) > 2
    assert set(index) == set(weights) - left_out
    for name, file in index.items():
        found = shards[file].pop(name)
        assert found.dtype == weights[name].dtype and found.shape == weights[name].shape, name
        assert torch.equal(found, weights[name]), name
    assert not any(shards.values())
    assert json.loads((target / "tokenizer.json").read_text())["model"]["vocab"]["A"] == 36

    if evaluate:
        (scratch / "tokens").write_text("".join(f"{i}\n" for i in range(60)))
        subprocess.run([evaluate, "--model", target, "--tokens", scratch / "tokens", "--length", "60", "--modes",
                        "dense", "--sweep", "none", "--output", scratch / "report"], check=True, capture_output=True)

    refused("already there", source, target)
    (source / "vocab.json").write_text("{")
    refused("no tokenizer", source, scratch / "absent")
    for file in source.glob("*.bin"):
        file.write_bytes(file.read_bytes()[:-100])
    refused("cannot convert", source, scratch / "absent")
    for contents in (["no", "tensors"], {"weight": "no tensor"}):
        for file in source.glob("*.bin"):
            torch.save(contents, file)
        refused("something else than tensors", source, scratch / "absent")
    for file in source.glob("*.bin"):
        file.write_bytes(b"")
    refused("cannot convert", source, scratch / "absent")
    assert not (scratch / "absent").exists()


def main():
    evaluate = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        check(scratch, write_opt, {"lm_head.weight"}, evaluate)
        check(scratch, write_gptj, set(), evaluate)
        empty = scratch / "empty"
        empty.mkdir()
        refused("no config.json", empty, scratch / "absent")
        (empty / "config.json").write_text("{}")
        refused("no pytorch_model.bin", empty, scratch / "absent")
        index = empty / "pytorch_model.bin.index.json"
        for text in ("", "{", "[]", "{}", '{"weight_map": 1}'):
            index.write_text(text)
            refused("no weight_map", empty, scratch / "absent")
        for name in ("../x.bin", "/x.bin", 2):
            index.write_text(json.dumps({"weight_map": {"a": name}}))
            refused("no file name", empty, scratch / "absent")
        index.write_text('{"weight_map": {"a": "x.bin"}}')
        refused("there is no file", empty, scratch / "absent")
        (empty / "pytorch_model.bin").write_bytes(b"")
        refused("cannot make the folder", empty, empty / "config.json" / "absent")
    print("Converted checkpoints equal their .bin files.")


if __name__ == "__main__":
    main()
