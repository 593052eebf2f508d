"""Makes the golden Llama checkpoint: a tiny random model, and what `transformers` computes with it.

    python3 -m venv venv && venv/bin/pip install numpy safetensors torch transformers
    venv/bin/python tests/engine/golden/make_llama.py

Writes config.json, model.safetensors (BF16) and golden.safetensors (F32) beside itself: token ids, the residual stream entering
every layer, the final normalised hidden states, and logits.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS = 61  # odd, and longer than one block of any kernel's rows


def random_model():
    torch.manual_seed(3)
    config = LlamaConfig(hidden_size=48, intermediate_size=92, num_hidden_layers=3, num_attention_heads=6,
                         num_key_value_heads=2, head_dim=10, vocab_size=97, max_position_embeddings=128,
                         rms_norm_eps=1e-5, rope_theta=1000.0, tie_word_embeddings=False)
    model = LlamaForCausalLM(config).eval()
    for name, weight in model.named_parameters():  # the default initialisation hides errors: norms of 1, logits near 0
        scale, shift = (0.3, 1.0) if "norm" in name else (0.25, 0.0)
        torch.nn.init.normal_(weight, shift, scale)
        weight.data = weight.data.bfloat16().double()  # stored as BF16; computed in double, so that errors are ours
    return config, model


def main():
    folder = pathlib.Path(__file__).parent
    config, model = random_model()
    tokens = torch.randint(0, config.vocab_size, (1, TOKENS))
    entering = {}
    for index, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda _, inputs, index=index: entering.update({index: inputs[0][0].clone()}))
    with torch.no_grad():
        final = model.model(tokens).last_hidden_state
        logits = model.lm_head(final)

    golden = {f"layer_{index:02d}": x for index, x in entering.items()}
    golden |= {"tokens": tokens, "final": final[0], "logits": logits[0]}
    save_file({name: x.float().contiguous() for name, x in golden.items()}, folder / "golden.safetensors")
    save_file({name: x.bfloat16().contiguous() for name, x in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_diff_dict() | {"model_type": "llama"}, indent=2) + "\n")


if __name__ == "__main__":
    main()
