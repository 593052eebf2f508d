"""Makes the golden attention of gpt-oss, BLOOM, MPT and DeepSeek-V3: tiny random models, and what goes into and comes out of their
layers' attention in `transformers`, in double precision.

    python3 -m venv venv && venv/bin/pip install numpy safetensors torch transformers
    venv/bin/python tests/engine/golden/make_attention.py [NAME...]

Per model a file beside itself, attention-NAME.safetensors (F32), with for each layer i the rows, a token each, of all
heads: q_i, k_i, v_i as they enter the logits, after rotary embedding, and out_i before the output projection. Beside
them

    sinks_i     gpt-oss: a learned logit per head that has no value
    slopes_i    BLOOM, MPT: what a logit gains per position that its key comes later
    latent_q_i, latent_k_i, up_v_i
                DeepSeek: the same attention on the latent rows that are cached. One KV head; a key's first columns are
                its value, and up_v_i [heads value_dim, latent] makes outputs of what comes out.
"""
import pathlib
import sys

import torch
from make_decoders import TOKENS, randomise
from safetensors.torch import save_file
from transformers import (BloomConfig, BloomForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM, GptOssConfig, GptOssForCausalLM,
                          MptConfig, MptForCausalLM)
from transformers.models.bloom import modeling_bloom
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.mpt import modeling_mpt

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "vocab_size": 41, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}

MODELS = {  # name: (class, config)
    # A window in every second layer.
    "gpt-oss": (GptOssForCausalLM, GptOssConfig(**SIZES, intermediate_size=20, num_attention_heads=4, num_key_value_heads=2,
                                                head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=13,
                                                max_position_embeddings=64, rope_parameters={"rope_type": "default", "rope_theta": 1e3})),
    # Heads are no power of two: slopes come from two sequences.
    "bloom": (BloomForCausalLM, BloomConfig(hidden_size=24, n_layer=2, n_head=3, vocab_size=41)),
    "mpt": (MptForCausalLM, MptConfig(d_model=40, n_heads=5, n_layers=2, vocab_size=41, max_seq_len=64)),
    "deepseek": (DeepseekV3ForCausalLM, DeepseekV3Config(
        **SIZES, intermediate_size=20, num_attention_heads=3, num_key_value_heads=3, q_lora_rank=14, kv_lora_rank=20,
        qk_nope_head_dim=12, qk_rope_head_dim=6, v_head_dim=10, first_k_dense_replace=2, max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 1e3})),
}


def rows(x):
    """[1, heads, T, dim] as [T, heads dim]."""
    return x[0].transpose(0, 1).flatten(1)


def record_calls(modeling, golden):
    """Of models whose attention is a function: what it is given and gives."""
    attend = modeling.eager_attention_forward

    def recorded(module, query, key, value, *others, **options):
        out, weights = attend(module, query, key, value, *others, **options)
        for name, x in (("q", query), ("k", key), ("v", value), ("out", out.transpose(1, 2))):
            golden[f"{name}_{module.layer_idx}"] = rows(x)
        return out, weights

    modeling.eager_attention_forward = recorded


def record_fused(module, project, project_out, split, index, golden):
    """Of models that compute q, k and v together: the layer's own split of them, and what the output is made of."""
    project.register_forward_hook(lambda _, inputs, fused: golden.update(
        {f"{name}_{index}": rows(x) for name, x in zip("qkv", split(fused))}))
    project_out.register_forward_pre_hook(lambda _, inputs: golden.update({f"out_{index}": inputs[0][0]}))


def add_latent(module, index, hidden, golden):
    """The same attention on latent rows: a head's key projection goes into its queries."""
    heads, nope, rope = module.num_heads, module.qk_nope_head_dim, module.qk_rope_head_dim
    up = module.kv_b_proj.weight.view(heads, nope + module.v_head_dim, module.kv_lora_rank)
    latent = module.kv_a_layernorm(module.kv_a_proj_with_mqa(hidden)[..., : module.kv_lora_rank])[0]
    query = golden[f"q_{index}"].unflatten(1, (heads, nope + rope))
    absorbed = torch.einsum("thn,hnl->thl", query[..., :nope], up[:, :nope])
    rotated = golden[f"k_{index}"].unflatten(1, (heads, nope + rope))[:, 0, nope:]
    golden[f"latent_q_{index}"] = torch.cat((absorbed, query[..., nope:]), -1).flatten(1)
    golden[f"latent_k_{index}"] = torch.cat((latent, rotated), -1)
    golden[f"up_v_{index}"] = up[:, nope:].flatten(0, 1)


def record(name, model, golden):
    if name == "gpt-oss":
        record_calls(modeling_gpt_oss, golden)
        for index, layer in enumerate(model.model.layers):
            golden[f"sinks_{index}"] = layer.self_attn.sinks.detach()[None]
    elif name == "bloom":
        for index, layer in enumerate(model.transformer.h):
            attention = layer.self_attention
            record_fused(attention, attention.query_key_value, attention.dense, attention._reshape, index, golden)
            positions = modeling_bloom.build_alibi_tensor(torch.ones(1, 2), attention.num_heads, torch.float64)
            golden[f"slopes_{index}"] = positions[:, 0, 1][None]
    elif name == "mpt":
        for index, layer in enumerate(model.transformer.blocks):
            attention = layer.attn
            split = lambda fused, heads=attention.n_heads: [
                x.unflatten(2, (heads, -1)).transpose(1, 2) for x in fused.chunk(3, 2)]
            record_fused(attention, attention.Wqkv, attention.out_proj, split, index, golden)
            positions = modeling_mpt.build_mpt_alibi_tensor(attention.n_heads, 2)
            golden[f"slopes_{index}"] = (positions[:, 0, 1] - positions[:, 0, 0])[None]
    else:
        record_calls(modeling_deepseek_v3, golden)
        for index, layer in enumerate(model.model.layers):
            layer.self_attn.register_forward_hook(
                lambda module, _, options, __, index=index: add_latent(module, index, options["hidden_states"], golden),
                with_kwargs=True)


def make(name, architecture, config):
    torch.manual_seed(5)
    config._attn_implementation = config._experts_implementation = "eager"  # the others know no double
    model = architecture(config).eval().double()
    randomise(model, torch.float32)
    golden = {}
    record(name, model, golden)
    with torch.no_grad():
        model(torch.randint(0, config.vocab_size, (1, TOKENS)))
    file = pathlib.Path(__file__).parent / f"attention-{name}.safetensors"
    save_file({key: x.float().contiguous() for key, x in golden.items()}, file)
    print(file.name, {key: tuple(x.shape) for key, x in golden.items()})


def main():
    for name in sys.argv[1:] or MODELS:
        make(name, *MODELS[name])


if __name__ == "__main__":
    main()
