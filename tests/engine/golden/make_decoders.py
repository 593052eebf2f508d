"""Makes the golden GPT-2, GPT-J, OPT, Qwen2, Mistral and Gemma 2 checkpoints, and Llamas with scaled rotary positions: tiny random
models, and what `transformers` computes with them.

    python3 -m venv venv && venv/bin/pip install numpy safetensors torch transformers
    venv/bin/python tests/engine/golden/make_decoders.py [FOLDER...]

Per model a folder beside itself with config.json, the weights and golden.safetensors (F32): token ids, the residual
stream entering every layer, the final normalised hidden states, and logits.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import (Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, GPTJConfig, GPTJForCausalLM, LlamaConfig, LlamaForCausalLM,
                          MistralConfig, MistralForCausalLM, OPTConfig, OPTForCausalLM, Qwen2Config, Qwen2ForCausalLM)
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

TOKENS = 61  # odd, and longer than one block of any kernel's rows


def llama(positions, scaling, **others):
    """Heads of 12 columns: of six frequencies, every scaling leaves some, changes others, and mixes the rest."""
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 1, "vocab_size": 41, "bos_token_id": 1, "eos_token_id": 1}
    rope = {"rope_theta": 1000.0} | scaling
    return sizes | {"max_position_embeddings": positions, "rope_parameters": rope} | others


MODELS = {  # folder: (class, config, type of the weights)
    # Stored as OpenAI's own GPT-2 is: no "transformer." before the names, F32, causal masks among the tensors.
    "gpt2-published": (GPT2LMHeadModel, GPT2Config(n_embd=24, n_layer=2, n_head=3, n_positions=61, vocab_size=83,
                                                   bos_token_id=1, eos_token_id=1), torch.float32),
    "gpt2-untied": (GPT2LMHeadModel, GPT2Config(n_embd=36, n_layer=3, n_head=4, n_positions=96, n_inner=70,
                                                vocab_size=71, tie_word_embeddings=False, bos_token_id=1,
                                                eos_token_id=1), torch.bfloat16),
    "gptj-partial": (GPTJForCausalLM, GPTJConfig(n_embd=30, n_layer=3, n_head=3, rotary_dim=6, n_positions=64,
                                                 vocab_size=67, bos_token_id=1, eos_token_id=1), torch.bfloat16),
    # In two shards with an index; every column of a head is rotated.
    "gptj-sharded": (GPTJForCausalLM, GPTJConfig(n_embd=32, n_layer=2, n_head=4, rotary_dim=8, n_positions=80,
                                                 n_inner=50, vocab_size=59, bos_token_id=1, eos_token_id=1),
                     torch.float16),
    "opt-tied": (OPTForCausalLM, OPTConfig(hidden_size=40, num_hidden_layers=2, num_attention_heads=4, ffn_dim=66,
                                           max_position_embeddings=64, vocab_size=73, word_embed_proj_dim=40),
                 torch.float16),
    "opt-untied": (OPTForCausalLM, OPTConfig(hidden_size=30, num_hidden_layers=2, num_attention_heads=2, ffn_dim=100,
                                             max_position_embeddings=90, vocab_size=61, word_embed_proj_dim=30,
                                             tie_word_embeddings=False), torch.bfloat16),
    # As OPT-350m: LayerNorm after each half of a layer, embeddings narrower than the layers.
    "opt-post-norm": (OPTForCausalLM, OPTConfig(hidden_size=33, num_hidden_layers=2, num_attention_heads=3, ffn_dim=64,
                                                max_position_embeddings=70, vocab_size=53, word_embed_proj_dim=20,
                                                do_layer_norm_before=False), torch.float16),
    # The text is longer than training was.
    "llama-linear": (LlamaForCausalLM, LlamaConfig(**llama(32, {"rope_type": "linear", "factor": 2.5})),
                     torch.bfloat16),
    "llama-dynamic": (LlamaForCausalLM, LlamaConfig(**llama(32, {"rope_type": "dynamic", "factor": 2.0})),
                      torch.bfloat16),
    "llama-llama3": (LlamaForCausalLM, LlamaConfig(**llama(
        64, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 32})), torch.bfloat16),
    "llama-yarn": (LlamaForCausalLM, LlamaConfig(**llama(
        64, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 40})), torch.bfloat16),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**llama(61, {"rope_type": "default"}, num_attention_heads=6,
                                                    num_key_value_heads=2)), torch.bfloat16),
    # As DeepSeek's YaRN: all of its numbers set.
    "qwen2-yarn": (Qwen2ForCausalLM, Qwen2Config(**llama(
        64, {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 48, "beta_fast": 4.0,
             "beta_slow": 0.5, "mscale": 1.5, "mscale_all_dim": 0.7, "truncate": False},
        tie_word_embeddings=True)), torch.bfloat16),
    # The text is several windows long.
    "mistral": (MistralForCausalLM, MistralConfig(**llama(61, {"rope_type": "default"}, num_attention_heads=6,
                                                          num_key_value_heads=2, sliding_window=13)), torch.bfloat16),
    # Caps that logits reach, and a window in every second layer.
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**llama(
        61, {"rope_type": "default"}, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        query_pre_attn_scalar=5, attn_logit_softcapping=3.0, final_logit_softcapping=4.0, sliding_window=13,
        pad_token_id=0)), torch.bfloat16),
}

OLDER = ["llama-linear", "llama-dynamic"]  # config.json as it was before rope_parameters


def randomise(model, dtype):
    """The default initialisation hides errors: norms of 1, biases of 0, logits near 0."""
    for name, weight in model.named_parameters():
        is_norm = "norm" in name or ".ln_" in name
        shift = 1.0 if is_norm and name.endswith("weight") else 0.0
        torch.nn.init.normal_(weight, shift, 0.25)
        weight.data = weight.data.to(dtype).double()  # rounded as stored, computed in double: errors are ours


def stored_weights(folder, model, dtype):
    # A tied output is stored once, as the models' makers do.
    weights = {name: x.to(dtype).contiguous() for name, x in model.named_parameters() if name != "lm_head.weight"}
    if not model.config.tie_word_embeddings:
        weights["lm_head.weight"] = model.lm_head.weight.to(dtype).contiguous()
    if folder.name != "gpt2-published":
        return weights
    weights = {name.removeprefix("transformer."): x for name, x in weights.items()}
    positions = model.config.n_positions
    for layer in range(model.config.n_layer):
        weights[f"h.{layer}.attn.bias"] = torch.ones(positions, positions).tril().view(1, 1, positions, positions)
    return weights


def save_weights(folder, weights):
    names = sorted(weights)
    if folder.name != "gptj-sharded":
        save_file(weights, folder / "model.safetensors")
        return
    where = {}
    for number, part in enumerate([names[: len(names) // 2], names[len(names) // 2 :]], 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file)
        where |= {name: file for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}, indent=2) + "\n")


def gemma_norm(self, x):
    """As transformers has it, but not in float32."""
    return self._norm(x) * (1.0 + self.weight)


def make(folder, architecture, config, dtype):
    Gemma2RMSNorm.forward = gemma_norm
    torch.manual_seed(5)
    config._attn_implementation = "eager"
    model = architecture(config).eval().double()
    randomise(model, dtype)
    tokens = torch.randint(0, config.vocab_size, (1, TOKENS))
    body = model.transformer if hasattr(model, "transformer") else getattr(model.model, "decoder", model.model)
    entering = {}
    for index, layer in enumerate(body.h if hasattr(body, "h") else body.layers):
        layer.register_forward_pre_hook(lambda _, inputs, index=index: entering.update({index: inputs[0][0].clone()}))
    with torch.no_grad():
        final = body(tokens).last_hidden_state
        logits = model(tokens).logits

    folder.mkdir(exist_ok=True)
    golden = {f"layer_{index:02d}": x for index, x in entering.items()}
    golden |= {"tokens": tokens, "final": final[0], "logits": logits[0]}
    save_file({name: x.float().contiguous() for name, x in golden.items()}, folder / "golden.safetensors")
    save_weights(folder, stored_weights(folder, model, dtype))
    text = config.to_diff_dict() | {"model_type": config.model_type}
    if folder.name in OLDER:
        rope = text.pop("rope_parameters")
        text |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"type": rope["rope_type"], "factor": rope["factor"]}}
    (folder / "config.json").write_text(json.dumps(text, indent=2) + "\n")


def main():
    for name in sys.argv[1:] or MODELS:
        make(pathlib.Path(__file__).parent / name, *MODELS[name])


if __name__ == "__main__":
    main()
