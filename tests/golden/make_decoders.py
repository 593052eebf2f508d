"""Makes the golden GPT-2, GPT-J and OPT checkpoints: tiny random models, and what `transformers` computes with them.

    python3 -m venv venv && venv/bin/pip install numpy safetensors torch transformers
    venv/bin/python tests/golden/make_decoders.py

Per model a folder beside itself with config.json, the weights (BF16; of GPT-J's second model in two shards with an
index) and golden.safetensors (F32): token ids, the residual stream entering every layer, the final normalised hidden
states, and logits.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPTJConfig, GPTJForCausalLM, OPTConfig, OPTForCausalLM

TOKENS = 61  # odd, and longer than one block of any kernel's rows

MODELS = {
    "gpt2-tied": (GPT2LMHeadModel, GPT2Config(n_embd=40, n_layer=3, n_head=5, n_positions=64, vocab_size=83)),
    "gpt2-untied": (GPT2LMHeadModel, GPT2Config(n_embd=36, n_layer=2, n_head=3, n_positions=96, n_inner=70,
                                                vocab_size=71, tie_word_embeddings=False)),
    "gptj-partial": (GPTJForCausalLM, GPTJConfig(n_embd=42, n_layer=3, n_head=3, rotary_dim=6, n_positions=64,
                                                 vocab_size=67)),
    "gptj-whole": (GPTJForCausalLM, GPTJConfig(n_embd=32, n_layer=2, n_head=4, rotary_dim=8, n_positions=80,
                                               n_inner=50, vocab_size=59)),
    "opt-tied": (OPTForCausalLM, OPTConfig(hidden_size=40, num_hidden_layers=3, num_attention_heads=4, ffn_dim=66,
                                           max_position_embeddings=64, vocab_size=73, word_embed_proj_dim=40)),
    "opt-untied": (OPTForCausalLM, OPTConfig(hidden_size=30, num_hidden_layers=2, num_attention_heads=2, ffn_dim=100,
                                             max_position_embeddings=90, vocab_size=61, word_embed_proj_dim=30,
                                             tie_word_embeddings=False)),
}
SHARDED = "gptj-whole"


def layers_of(model):
    if hasattr(model, "transformer"):
        return model.transformer.h, model.transformer
    return model.model.decoder.layers, model.model.decoder


def randomise(model):
    """The default initialisation hides errors: norms of 1, biases of 0, logits near 0."""
    for name, weight in model.named_parameters():
        is_norm = "norm" in name or ".ln_" in name
        shift = 1.0 if is_norm and name.endswith("weight") else 0.0
        torch.nn.init.normal_(weight, shift, 0.25)
        weight.data = weight.data.bfloat16().double()  # stored as BF16; computed in double, so that errors are ours


def save_weights(folder, model, sharded):
    # A tied output is stored once, as the models' makers do.
    tied = model.config.tie_word_embeddings
    weights = {name: x.bfloat16().contiguous() for name, x in model.state_dict().items()
               if not (tied and name == "lm_head.weight") and not name.endswith((".attn.bias", ".masked_bias"))
               and "embed_positions" not in name or "embed_positions.weight" in name}
    if not sharded:
        save_file(weights, folder / "model.safetensors")
        return
    names = sorted(weights)
    parts = [names[: len(names) // 2], names[len(names) // 2 :]]
    where = {}
    for number, part in enumerate(parts, 1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        save_file({name: weights[name] for name in part}, folder / file)
        where |= {name: file for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}, indent=2) + "\n")


def make(folder, architecture, config):
    torch.manual_seed(5)
    config._attn_implementation = "eager"
    model = architecture(config).eval().double()
    randomise(model)
    tokens = torch.randint(0, config.vocab_size, (1, TOKENS))
    layers, body = layers_of(model)
    entering = {}
    for index, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda _, inputs, index=index: entering.update({index: inputs[0][0].clone()}))
    with torch.no_grad():
        final = body(tokens).last_hidden_state
        logits = model.lm_head(final)

    folder.mkdir(exist_ok=True)
    golden = {f"layer_{index:02d}": x for index, x in entering.items()}
    golden |= {"tokens": tokens, "final": final[0], "logits": logits[0]}
    save_file({name: x.float().contiguous() for name, x in golden.items()}, folder / "golden.safetensors")
    save_weights(folder, model, folder.name == SHARDED)
    text = config.to_dict()
    text.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(text, indent=2) + "\n")


def main():
    for name, (architecture, config) in MODELS.items():
        make(pathlib.Path(__file__).parent / name, architecture, config)


if __name__ == "__main__":
    main()
