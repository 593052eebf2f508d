"""Turns a GGUF file of the Llama family into a model folder: model.safetensors (float32), config.json, tokenizer.json.

Quantised values are dequantised exactly as ggml does, so the folder holds the quantised model, not the original one.
"""
import argparse
import json
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
OUTER_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
CONTROL_TOKEN = 3  # ggml's token type of <|im_start|> and the like


def undo_interleaving(weight, heads):
    """Rows of q or k, [heads * head_dim, width], from GGUF's order to that of Hugging Face.

    GGUF rotates the neighbours (2i, 2i + 1) of a head, Hugging Face the halves (i, i + head_dim / 2): row 2i + s of a
    head in GGUF is row s * head_dim / 2 + i here.
    """
    rows, width = weight.shape
    half = rows // heads // 2
    return weight.reshape(heads, half, 2, width).swapaxes(1, 2).reshape(rows, width)


def target_name(name):
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    _, layer, part, suffix = name.split(".")  # blk.3.attn_q.weight
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{suffix}"


def read_tensors(reader, config):
    heads_of = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        part = tensor.name.split(".")[-2]
        if part in heads_of:
            weight = undo_interleaving(weight, heads_of[part])
        tensors[target_name(tensor.name)] = np.ascontiguousarray(weight)
    return tensors


def read_config(field, tensor_names):
    architecture = field("general.architecture")
    if architecture != "llama":
        sys.exit(f"convert_gguf.py: the architecture is {architecture!r}, not 'llama'")
    heads = field("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "head_dim": field("llama.rope.dimension_count"),
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": field("llama.rope.freq_base"),
        "tie_word_embeddings": "output.weight" not in tensor_names,
        "vocab_size": len(field("tokenizer.ggml.tokens")),
        "torch_dtype": "float32",
    }


def read_tokenizer(field):
    """Byte-level BPE as SmolLM2 has it: digits one by one, then GPT-2's pattern."""
    if (field("tokenizer.ggml.model"), field("tokenizer.ggml.pre")) != ("gpt2", "smollm"):
        sys.exit("convert_gguf.py: only SmolLM's tokenizer (byte-level BPE, single digits) is understood")
    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    types = field("tokenizer.ggml.token_type")
    control = [token for token, kind in zip(tokens, types) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", help="the file to convert")
    parser.add_argument("folder", help="where the model goes; made whole or not at all")
    arguments = parser.parse_args()

    reader = gguf.GGUFReader(arguments.gguf)
    field = lambda name: reader.fields[name].contents()
    config = read_config(field, {tensor.name for tensor in reader.tensors})
    parent = os.path.dirname(os.path.abspath(arguments.folder))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as scratch:
        save_file(read_tensors(reader, config), os.path.join(scratch, "model.safetensors"), {"format": "pt"})
        read_tokenizer(field).save(os.path.join(scratch, "tokenizer.json"))
        with open(os.path.join(scratch, "config.json"), "w") as file:
            json.dump(config, file, indent=2)
        os.mkdir(os.path.join(scratch, "model"))
        for name in ("model.safetensors", "tokenizer.json", "config.json"):
            os.replace(os.path.join(scratch, name), os.path.join(scratch, "model", name))
        os.replace(os.path.join(scratch, "model"), arguments.folder)


if __name__ == "__main__":
    main()
