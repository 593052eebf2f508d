"""The golden Llama checkpoint, written as GGUF the way llama.cpp does and converted back: every tensor is the same.

Needs the packages of examples/tools/requirements.txt.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from safetensors import safe_open

HERE = pathlib.Path(__file__).resolve().parent
CONVERTER = HERE.parent / "examples" / "tools" / "convert_gguf.py"
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


def write_gguf(path, tensors):
    config = json.loads((HERE / "golden" / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    tokens = ["<|endoftext|>"] + [chr(ord("!") + i) for i in range(94)] + ["ab", "abc"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * 96)
    writer.add_token_merges(["a b", "ab c"])
    for name, weight in tensors.items():
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
        writer.add_tensor(gguf_name(name), interleave(weight, heads) if heads else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    golden = golden_tensors()
    with tempfile.TemporaryDirectory() as scratch:
        write_gguf(f"{scratch}/golden.gguf", golden)
        subprocess.run([sys.executable, CONVERTER, f"{scratch}/golden.gguf", f"{scratch}/model"], check=True)
        with safe_open(f"{scratch}/model/model.safetensors", "numpy") as converted:
            assert set(converted.keys()) == set(golden)
            for name, weight in golden.items():
                assert np.array_equal(converted.get_tensor(name), weight), name
        config = json.loads(pathlib.Path(f"{scratch}/model/config.json").read_text())
        assert config["num_key_value_heads"] == KV_HEADS and config["tie_word_embeddings"] is False

        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(f"{scratch}/model/tokenizer.json")
        ids = tokenizer.encode("abcab12<|endoftext|>").ids
        assert [tokenizer.id_to_token(i) for i in ids] == ["abc", "ab", "1", "2", "<|endoftext|>"], ids
    print("The converter gives back the golden checkpoint")


if __name__ == "__main__":
    main()
