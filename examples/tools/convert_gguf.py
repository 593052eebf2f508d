"""Turns a GGUF file of the Llama family into a model folder: model.safetensors (float32), config.json, tokenizer.json.

Quantised values are dequantised exactly as ggml does, so the folder holds the quantised model, not the original one.
What is missing has the format's default; what is damaged, or would change the model and is not known here, is refused
with one sentence and exit code 2.
"""
import argparse
import json
import math
import os
import sys
import tempfile

import gguf
import numpy as np
from gguf.quants import dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
KNOWN_KEYS = {  # of the architecture; another one with a value other than 0 or false may change the model
    "context_length", "embedding_length", "block_count", "feed_forward_length", "vocab_size", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
    "attention.causal", "rope.dimension_count", "rope.freq_base", "rope.scale_linear", "rope.scaling.type",
    "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.finetuned",
}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
CONTROL_TOKEN = 3  # ggml's token type of <|im_start|> and the like


def fail(sentence):
    print("convert_gguf.py: " + " ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)


class StrictReader(gguf.GGUFReader):
    """The package's reader takes what lies behind the end of a file for empty, and may then never end."""

    def _get(self, offset, dtype, count=1, override_order=None):
        if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
            raise ValueError("it is truncated, or a length in it is wrong")
        return super()._get(int(offset), dtype, count, override_order)


class Metadata:
    """The keys of a file, each read with the type that it must have."""

    def __init__(self, fields):
        self.values = {name: field.contents() for name, field in fields.items()}

    def get(self, name, types, what, otherwise):
        value = self.values.get(name, otherwise)
        if value is None:
            fail(f"the file has no {name}")
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            fail(f"{name} is no {what}")
        return value

    def size(self, name, otherwise=None):
        value = self.get(name, int, "integer", otherwise)
        return value if 1 <= value <= 1 << 24 else fail(f"{name} is {value}, which is no size")

    def positive(self, name, otherwise=None):
        """Of a float32, the decimal number that was meant."""
        value = float(f"{self.get(name, (int, float), 'number', otherwise):.6g}")
        return value if 0 < value < math.inf else fail(f"{name} is {value}, which is not positive and finite")

    def text(self, name, otherwise=None):
        return self.get(name, str, "text", otherwise)

    def list(self, name, of):
        values = self.get(name, list, "list", None)
        return values if all(type(value) is of for value in values) else fail(f"{name} is no list of {of.__name__}")


def undo_interleaving(weight, heads):
    """Rows of q or k, [heads * head_dim, width], from GGUF's order to that of Hugging Face.

    GGUF rotates the neighbours (2i, 2i + 1) of a head, Hugging Face the halves (i, i + head_dim / 2): row 2i + s of a
    head in GGUF is row s * head_dim / 2 + i here.
    """
    rows, width = weight.shape
    half = rows // heads // 2
    return weight.reshape(heads, half, 2, width).swapaxes(1, 2).reshape(rows, width)


def expected_tensors(config, tied):
    """GGUF name: (name in the model folder, shape)."""
    hidden, wide, head_dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    shapes = {"attn_norm": (hidden,), "attn_q": (queries, hidden), "attn_k": (keys, hidden), "attn_v": (keys, hidden),
              "attn_output": (hidden, queries), "ffn_norm": (hidden,), "ffn_gate": (wide, hidden),
              "ffn_up": (wide, hidden), "ffn_down": (hidden, wide)}
    vocabulary = (config["vocab_size"], hidden)
    tensors = {"token_embd.weight": ("model.embed_tokens.weight", vocabulary),
               "output_norm.weight": ("model.norm.weight", (hidden,))}
    if not tied:
        tensors["output.weight"] = ("lm_head.weight", vocabulary)
    for layer in range(config["num_hidden_layers"]):
        for name, shape in shapes.items():
            tensors[f"blk.{layer}.{name}.weight"] = (f"model.layers.{layer}.{LAYER_NAMES[name]}.weight", shape)
    return tensors


def check_tensors(tensors, expected):
    for name in expected:
        if name not in tensors:
            fail(f"the file has no tensor {name}")
    for name, tensor in tensors.items():
        if name not in expected:
            fail(f"tensor {name} belongs to no Llama that this program knows")
        shape = tuple(int(size) for size in reversed(tensor.shape))
        if shape != expected[name][1]:
            fail(f"tensor {name} has shape {list(shape)}, not {list(expected[name][1])}")
    end = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: tensor.data_offset):
        if tensor.data_offset < end:
            fail(f"tensor {tensor.name} overlaps another")
        end = tensor.data_offset + tensor.n_bytes


def read_tensors(tensors, expected, config):
    heads_of = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    out = {}
    for name, tensor in tensors.items():
        target, shape = expected[name]
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
        part = name.split(".")[-2]
        if part in heads_of:
            weight = undo_interleaving(weight, heads_of[part])
        out[target] = np.ascontiguousarray(weight)
    return out


def read_scaling(given, context_length):
    """The file's own keys for scaled rotary positions; with a factor and no type they are linear."""
    kind = given.text("llama.rope.scaling.type", "linear")
    factor = given.positive("llama.rope.scaling.factor", given.values.get("llama.rope.scale_linear", 1.0))
    if kind not in ("none", "linear", "yarn"):
        fail(f"rotary positions of type {kind} are not known; there are none, linear and yarn")
    if kind == "none" or factor == 1:
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    original = given.size("llama.rope.scaling.original_context_length", context_length)
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}


def llama3_factors(head_dim, base, factor):
    """What Llama 3's scaling divides each frequency by, in double precision."""
    low, high, trained = LLAMA3.values()
    frequencies = base ** -(np.arange(0, head_dim, 2) / head_dim)
    turns = trained * frequencies / (2 * math.pi)  # over the length of training
    mix = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - mix) / factor + mix)


def scaling_of_frequencies(tensor, config):
    """GGUF files of Llama 3.1 and later have no keys for its scaling but the divisors of all frequencies."""
    divisors = dequantize(tensor.data, tensor.tensor_type).astype(np.float64).reshape(-1)
    if divisors.shape != (config["head_dim"] // 2,) or not np.all(np.isfinite(divisors)) or not np.all(divisors >= 1):
        fail("rope_freqs.weight does not hold a divisor for each rotary frequency")
    if np.all(divisors == 1):
        return None
    factor = float(f"{divisors.max():.6g}")
    if not np.allclose(divisors, llama3_factors(config["head_dim"], config["rope_theta"], factor), rtol=1e-4):
        fail("rope_freqs.weight is not what Llama 3's scaling of rotary positions gives, and no other is known")
    return {"rope_type": "llama3", "factor": factor} | LLAMA3


def read_config(given, tensors):
    architecture = given.text("general.architecture")
    if architecture != "llama":
        fail(f"the architecture is {architecture!r}, not 'llama'")
    for name, value in given.values.items():
        if name.startswith("llama.") and name.removeprefix("llama.") not in KNOWN_KEYS and value:
            fail(f"{name} is not supported")
    if given.get("llama.attention.causal", bool, "boolean", True) is False:
        fail("llama.attention.causal = false is not supported")
    hidden, heads = given.size("llama.embedding_length"), given.size("llama.attention.head_count")
    head_dim = given.size("llama.attention.key_length", max(1, hidden // heads))
    for name in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if given.size(name, head_dim) != head_dim:
            fail(f"{name} is {given.size(name)}, not the {head_dim} columns of a head")
    kv_heads = given.size("llama.attention.head_count_kv", heads)
    if heads % kv_heads != 0 or head_dim % 2 != 0:
        fail(f"{heads} query heads, {kv_heads} key heads and {head_dim} columns of a head do not go together")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": given.size("llama.feed_forward_length"),
        "num_hidden_layers": min(given.size("llama.block_count"), len(tensors)),  # whose absence is noticed later
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": given.size("llama.context_length"),
        "rms_norm_eps": given.positive("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": given.positive("llama.rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in tensors,
        "vocab_size": len(given.list("tokenizer.ggml.tokens", str)),
        "torch_dtype": "float32",
    }
    scaling = read_scaling(given, config["max_position_embeddings"])
    frequencies = tensors.pop("rope_freqs.weight", None)
    if frequencies is not None:
        if scaling is not None:
            fail("the file has both rope_freqs.weight and llama.rope.scaling.factor")
        scaling = scaling_of_frequencies(frequencies, config)
    return config if scaling is None else config | {"rope_scaling": scaling}


def read_tokenizer(given):
    """Byte-level BPE as SmolLM2 has it: digits one by one, then GPT-2's pattern."""
    kind = given.text("tokenizer.ggml.model"), given.text("tokenizer.ggml.pre", "default")
    if kind != ("gpt2", "smollm"):
        fail(f"the tokenizer is {'/'.join(kind)}; only SmolLM's (byte-level BPE, single digits) is understood")
    tokens, types = given.list("tokenizer.ggml.tokens", str), given.list("tokenizer.ggml.token_type", int)
    merges = [tuple(pair.split(" ")) for pair in given.list("tokenizer.ggml.merges", str)]
    if len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        fail("tokenizer.ggml.tokens has a token twice, or tokenizer.ggml.token_type another length")
    if not all(len(pair) == 2 for pair in merges):
        fail("tokenizer.ggml.merges holds something else than pairs")
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def read_model(path):
    """(tensors, config, tokenizer) of a file, all of it checked."""
    if not os.path.isfile(path):  # nor a pipe, which would be waited for
        fail(f"there is no file {path}")
    with np.errstate(all="raise"):
        reader = StrictReader(path)
        given = Metadata(reader.fields)
        if given.values.get("split.count", 0):
            fail(f"{path} is one part of several; join them first")
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        config = read_config(given, tensors)
        expected = expected_tensors(config, config["tie_word_embeddings"])
        check_tensors(tensors, expected)
        tokenizer = read_tokenizer(given)
    return read_tensors(tensors, expected, config), config, tokenizer


def write_model(folder, tensors, config, tokenizer):
    parent = os.path.dirname(os.path.abspath(folder))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as scratch:
        made = os.path.join(scratch, "model")
        os.mkdir(made)
        save_file(tensors, os.path.join(made, "model.safetensors"), {"format": "pt"})
        tokenizer.save(os.path.join(made, "tokenizer.json"))
        with open(os.path.join(made, "config.json"), "w") as file:
            json.dump(config, file, indent=2)
        os.rename(made, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", help="the file to convert")
    parser.add_argument("folder", help="where the model goes; made whole or not at all")
    arguments = parser.parse_args()
    if os.path.lexists(arguments.folder):
        fail(f"{arguments.folder} is already there")
    try:
        model = read_model(arguments.gguf)
    except Exception as error:  # the packages raise whatever a damaged file leads them to
        fail(f"cannot read {arguments.gguf}: {error or type(error).__name__}")
    try:
        write_model(arguments.folder, *model)
    except Exception as error:  # safetensors and tokenizers have exceptions of their own
        fail(f"cannot write {arguments.folder}: {error}")


if __name__ == "__main__":
    main()
