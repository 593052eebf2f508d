"""The golden Llama checkpoint, written as GGUF the way llama.cpp does and converted back: every tensor is the same. Keys
that are left out have the format's defaults; damaged files and those that cannot be converted get one sentence.

Needs the packages of examples/tools/requirements.txt.
"""
import contextlib
import importlib.util
import io
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from safetensors import safe_open

HERE = pathlib.Path(__file__).resolve().parent
CONVERTER = HERE.parents[1] / "examples" / "tools" / "convert_gguf.py"
HEADS, KV_HEADS, HEAD_DIM = 6, 2, 10
NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def golden_tensors():
    """BF16 by hand, because numpy does not know it."""
    raw = (HERE / "golden" / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, entry in json.loads(raw[8:8 + length]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "BF16"
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        bits = np.frombuffer(raw[begin:end], np.uint16).astype(np.uint32) << 16
        tensors[name] = bits.view(np.float32).reshape(entry["shape"])
    return tensors


def interleave(weight, heads):
    """Row by row: component i of the first half of a head goes to row 2i, of the second half to row 2i + 1."""
    out = np.empty_like(weight)
    for row in range(weight.shape[0]):
        head, column = divmod(row, HEAD_DIM)
        half, i = divmod(column, HEAD_DIM // 2)
        out[head * HEAD_DIM + 2 * i + half] = weight[row]
    return out


def gguf_name(name):
    stem, suffix = name.rsplit(".", 1)
    if stem in OUTER:
        return f"{OUTER[stem]}.{suffix}"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[part]}.{suffix}"


def keys_of(config):
    """What llama.cpp's converter writes, as (the writer's method, value) by key."""
    tokens = ["<|endoftext|>"] + [chr(ord("!") + i) for i in range(94)] + ["ab", "abc"]
    return {
        "llama.block_count": ("uint32", config["num_hidden_layers"]),
        "llama.context_length": ("uint32", config["max_position_embeddings"]),
        "llama.embedding_length": ("uint32", config["hidden_size"]),
        "llama.feed_forward_length": ("uint32", config["intermediate_size"]),
        "llama.attention.head_count": ("uint32", HEADS),
        "llama.attention.head_count_kv": ("uint32", KV_HEADS),
        "llama.attention.key_length": ("uint32", HEAD_DIM),
        "llama.attention.value_length": ("uint32", HEAD_DIM),
        "llama.attention.layer_norm_rms_epsilon": ("float32", config["rms_norm_eps"]),
        "llama.rope.dimension_count": ("uint32", HEAD_DIM),
        "llama.rope.freq_base": ("float32", config["rope_parameters"]["rope_theta"]),
        "tokenizer.ggml.model": ("string", "gpt2"),
        "tokenizer.ggml.pre": ("string", "smollm"),
        "tokenizer.ggml.tokens": ("array", tokens),
        "tokenizer.ggml.token_type": ("array", [3] + [1] * 96),
        "tokenizer.ggml.merges": ("array", ["a b", "ab c"]),
    }


def write_gguf(path, tensors, changes=None, architecture="llama"):
    """The golden Llama's keys with some changed, added, or left out (None)."""
    keys = keys_of(json.loads((HERE / "golden" / "config.json").read_text())) | (changes or {})
    writer = gguf.GGUFWriter(path, architecture)
    for key, change in keys.items():
        if change is not None:
            getattr(writer, "add_" + change[0])(key, change[1])
    for name, weight in tensors.items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def as_gguf(golden):
    heads_of = {"q_proj": HEADS, "k_proj": KV_HEADS}
    out = {}
    for name, weight in golden.items():
        heads = heads_of.get(name.split(".")[-2])
        out[gguf_name(name)] = interleave(weight, heads) if heads else weight
    return out


class Converter:
    """Runs the converter's main program in this process."""

    def __init__(self, scratch):
        specification = importlib.util.spec_from_file_location("convert_gguf", CONVERTER)
        self.module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(self.module)
        self.scratch = pathlib.Path(scratch)
        self.path, self.folder = self.scratch / "x.gguf", self.scratch / "model"

    def run(self):
        """(exit code, stderr); exceptions pass. Nothing may take long."""
        shutil.rmtree(self.folder, ignore_errors=True)
        errors, sys.argv = io.StringIO(), ["convert_gguf.py", str(self.path), str(self.folder)]
        signal.alarm(60)
        try:
            with contextlib.redirect_stderr(errors):
                self.module.main()
            code = 0
        except SystemExit as end:
            code = end.code
        signal.alarm(0)
        return code, errors.getvalue()

    def config(self, tensors, changes):
        write_gguf(self.path, tensors, changes)
        code, errors = self.run()
        assert code == 0, errors
        return json.loads((self.folder / "config.json").read_text())

    def refuses(self, words):
        code, errors = self.run()
        assert code == 2 and errors.count("\n") == 1 and words in errors, (words, code, errors)
        assert [path.name for path in self.scratch.iterdir()] == ["x.gguf"], "something was left behind"


def check_round_trip(converter, golden):
    write_gguf(converter.path, as_gguf(golden))
    subprocess.run([sys.executable, CONVERTER, converter.path, converter.folder], check=True)
    with safe_open(converter.folder / "model.safetensors", "numpy") as converted:
        assert set(converted.keys()) == set(golden)
        for name, weight in golden.items():
            assert np.array_equal(converted.get_tensor(name), weight), name
    config = json.loads((converter.folder / "config.json").read_text())
    assert config["num_key_value_heads"] == KV_HEADS and config["tie_word_embeddings"] is False
    assert "rope_scaling" not in config and config["rope_theta"] == 1000

    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(converter.folder / "tokenizer.json"))
    ids = tokenizer.encode("abcab12<|endoftext|>").ids
    assert [tokenizer.id_to_token(i) for i in ids] == ["abc", "ab", "1", "2", "<|endoftext|>"], ids
    code = subprocess.run([sys.executable, CONVERTER, converter.path, converter.folder], stderr=subprocess.PIPE)
    assert code.returncode == 2 and b"already there" in code.stderr, code


def check_defaults(converter, tensors):
    """Of the format: as many key heads as query heads, heads that share the width, a base of 10000."""
    many = dict(tensors)
    for name, weight in tensors.items():
        part = name.split(".")[-2]
        if part in ("attn_q", "attn_k", "attn_v"):
            many[name] = np.resize(weight, (48, 48))
        elif part == "attn_output":
            many[name] = np.resize(weight, (48, 48))
    left_out = ["attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count",
                "rope.freq_base"]
    config = converter.config(many, {f"llama.{key}": None for key in left_out})
    assert (config["num_key_value_heads"], config["head_dim"], config["rope_theta"]) == (HEADS, 8, 10000), config
    untied = dict(tensors)
    del untied["output.weight"]
    assert converter.config(untied, {})["tie_word_embeddings"] is True


def llama3_divisors(factor):
    """Frequency by frequency, as llama.cpp's converter writes them."""
    out = []
    for i in range(HEAD_DIM // 2):
        wave = 2 * math.pi * 1e6 ** (2 * i / HEAD_DIM)
        if wave < 8192 / 4:
            out.append(1)
        elif wave > 8192 / 1:
            out.append(factor)
        else:
            smooth = (8192 / wave - 1) / (4 - 1)
            out.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(out, np.float32)


def check_scaling(converter, tensors):
    rope = "llama.rope.scaling."
    scaling = lambda changes: converter.config(tensors, changes).get("rope_scaling")
    assert scaling({rope + "type": ("string", "none"), rope + "factor": ("float32", 4)}) is None
    linear = {"rope_type": "linear", "factor": 4}
    assert scaling({rope + "factor": ("float32", 4)}) == linear
    assert scaling({"llama.rope.scale_linear": ("float32", 4)}) == linear
    assert scaling({rope + "type": ("string", "linear"), rope + "factor": ("float32", 4)}) == linear
    yarn = {rope + "type": ("string", "yarn"), rope + "factor": ("float32", 4)}
    expected = {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 128}
    assert scaling(yarn) == expected
    assert scaling(yarn | {rope + "original_context_length": ("uint32", 32)}) == expected | {
        "original_max_position_embeddings": 32}

    base = {"llama.rope.freq_base": ("float32", 1e6)}
    frequencies = lambda divisors: tensors | {"rope_freqs.weight": np.array(divisors, np.float32)}
    config = converter.config(frequencies(llama3_divisors(32)), base)
    assert config["rope_scaling"] == {"rope_type": "llama3", "factor": 32, "low_freq_factor": 1, "high_freq_factor": 4,
                                      "original_max_position_embeddings": 8192}, config
    assert "rope_scaling" not in converter.config(frequencies([1] * 5), base)
    for divisors, changes, words in [
            (llama3_divisors(32) * 1.01, base, "rope_freqs.weight"), (llama3_divisors(32)[:4], base, "rope_freqs.weight"),
            ([1, 1, 1, 1, math.nan], base, "rope_freqs.weight"), ([1, 1, 1, 1, 0], base, "rope_freqs.weight"),
            (llama3_divisors(32), base | yarn, "both")]:
        write_gguf(converter.path, frequencies(divisors), changes)
        converter.refuses(words)


def check_keys(converter, tensors):
    for key, change, words in [
            ("llama.attention.head_count", None, "no llama.attention.head_count"),
            ("llama.attention.layer_norm_rms_epsilon", None, "no llama.attention.layer_norm_rms_epsilon"),
            ("llama.context_length", None, "no llama.context_length"),
            ("tokenizer.ggml.tokens", None, "no tokenizer.ggml.tokens"),
            ("tokenizer.ggml.merges", None, "no tokenizer.ggml.merges"),
            ("tokenizer.ggml.pre", None, "gpt2/default"),
            ("tokenizer.ggml.model", ("string", "llama"), "llama/smollm"),
            ("tokenizer.ggml.merges", ("array", ["a b c"]), "pairs"),
            ("tokenizer.ggml.merges", ("array", ["q zz"]), "cannot read"),
            ("tokenizer.ggml.token_type", ("array", [1, 2]), "token_type"),
            ("tokenizer.ggml.tokens", ("array", ["a"] * 97), "twice"),
            ("tokenizer.ggml.tokens", ("array", [1, 2]), "no list of str"),
            ("tokenizer.ggml.tokens", ("string", "ab"), "is no list"),
            ("llama.embedding_length", ("string", "wide"), "is no integer"),
            ("llama.embedding_length", ("uint32", 0), "no size"),
            ("llama.embedding_length", ("uint64", 1 << 60), "no size"),
            ("llama.embedding_length", ("uint32", 60), "has shape"),
            ("llama.block_count", ("uint32", 4), "no tensor blk.3."),
            ("llama.block_count", ("uint32", 1 << 24), "no tensor blk.3."),
            ("llama.block_count", ("bool", True), "is no integer"),
            ("llama.block_count", ("uint32", 2), "tensor blk.2."),
            ("llama.attention.head_count", ("uint32", 7), "do not go together"),
            ("llama.attention.head_count_kv", ("array", [2, 2, 1]), "is no integer"),
            ("llama.attention.head_count_kv", ("uint32", 0), "no size"),
            ("llama.attention.head_count_kv", ("uint32", 3), "has shape"),
            ("llama.attention.value_length", ("uint32", 12), "value_length"),
            ("llama.attention.causal", ("bool", False), "causal"),
            ("llama.rope.dimension_count", ("uint32", 4), "dimension_count"),
            ("llama.attention.layer_norm_rms_epsilon", ("float32", math.nan), "positive and finite"),
            ("llama.rope.freq_base", ("float32", 0), "positive and finite"),
            ("llama.rope.freq_base", ("string", "x"), "is no number"),
            ("llama.rope.scaling.type", ("string", "longrope"), ""),
            ("llama.rope.scaling.attn_factor", ("float32", 2), "attn_factor is not supported"),
            ("llama.expert_count", ("uint32", 8), "expert_count is not supported"),
            ("split.count", ("uint16", 2), "one part")]:
        write_gguf(converter.path, tensors, {key: change})
        converter.refuses(words)
    write_gguf(converter.path, tensors, architecture="mamba")
    converter.refuses("'mamba'")


def check_tensors(converter, tensors):
    without = dict(tensors)
    del without["blk.1.attn_q.weight"]
    for changed, words in [
            (without, "no tensor blk.1.attn_q.weight"),
            (tensors | {"blk.0.attn_q.bias": np.zeros(60, np.float32)}, "tensor blk.0.attn_q.bias"),
            (tensors | {"blk.0.attn_q_norm.weight": np.zeros(10, np.float32)}, "tensor blk.0.attn_q_norm.weight"),
            (tensors | {"x": np.zeros(10, np.float32)}, "tensor x"),
            (tensors | {"blk.0.attn_q.weight": np.zeros((60, 60), np.float32)}, "has shape")]:
        write_gguf(converter.path, changed)
        converter.refuses(words)


def check_damage(converter, tensors):
    write_gguf(converter.path, tensors)
    whole = converter.path.read_bytes()

    def refuses(data, words="cannot read"):
        converter.path.write_bytes(data)
        converter.refuses(words)

    def patched(offset, data):
        return whole[:offset] + data + whole[offset + len(data):]

    name = b"blk.0.attn_q.weight"
    entry = whole.index(name) + len(name)  # then: dimensions, sizes, type, offset
    tokens = whole.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens")  # then: array, of strings, count
    huge = b"\xff" * 7 + b"\x0f"
    refuses(b"")
    refuses(b"GGUF")
    refuses(patched(0, b"GGML"))
    refuses(patched(4, b"\x07"))
    refuses(patched(8, huge))                      # tensors
    refuses(patched(16, huge))                     # keys
    refuses(patched(24, huge))                     # length of the first key
    refuses(patched(tokens, b"\x63"))              # a type that does not exist
    refuses(patched(tokens + 4, b"\x09"))          # arrays of arrays
    refuses(patched(tokens + 8, huge))             # length of the list
    refuses(patched(tokens + 16, huge))            # length of a text
    refuses(patched(tokens + 24, b"\xff"))         # not UTF-8
    refuses(patched(entry, b"\xff\xff\xff\x7f"))   # dimensions
    refuses(patched(entry + 4, huge))              # a size
    refuses(patched(entry + 20, b"\x63"))          # type of the values
    refuses(patched(entry + 24, huge))             # place
    refuses(patched(entry + 24, bytes(8)), "overlaps another")
    refuses(whole.replace(name, b"blk.0.attn_k.weight", 1))
    refuses(whole.replace(b"llama.context_length", b"llama.feed_forwardxx", 1), "")
    for size in range(1, len(whole) - 32, len(whole) // 41):
        refuses(whole[:size])
    random = np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            data[random.integers(0, 5000)] = random.integers(0, 256)
        converter.path.write_bytes(data)
        code, errors = converter.run()
        assert (code == 0 and not errors) or (code == 2 and errors.count("\n") == 1), (code, errors)

    converter.path.unlink()
    shutil.rmtree(converter.folder, ignore_errors=True)
    for make in (os.mkdir, os.mkfifo, lambda path: os.symlink(path, path)):
        make(converter.path)
        converter.refuses("there is no file")
        os.rmdir(converter.path) if converter.path.is_dir() else converter.path.unlink()
    write_gguf(converter.path, tensors)
    converter.folder = pathlib.Path("/dev/null/model")
    code, errors = converter.run()
    assert code == 2 and errors.count("\n") == 1 and "cannot write" in errors, errors


def main():
    golden = golden_tensors()
    tensors = as_gguf(golden)
    with tempfile.TemporaryDirectory() as scratch:
        converter = Converter(scratch)
        check_round_trip(converter, golden)
        for check in (check_defaults, check_scaling, check_keys, check_tensors, check_damage):
            check(converter, tensors)
    print("The converter gives back the golden checkpoint, and refuses what it cannot convert")


if __name__ == "__main__":
    main()
