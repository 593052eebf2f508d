"""Makes the golden encoders: two tiny random BERT checkpoints and what `transformers` computes with them, and
embeddings of real sentences by all-MiniLM-L6-v2.

    python3 -m venv venv && venv/bin/pip install numpy safetensors tokenizers torch transformers
    venv/bin/python tests/engine/golden/make_encoders.py build/minilm-l6

Per tiny model a folder beside itself with config.json, model.safetensors (BF16) and golden.safetensors (F32): token ids
and the hidden states entering every layer and leaving the last. In minilm/ only golden.safetensors: token ids and
embedding of each sentence; build/minilm-l6 is where examples/paper_table.sh --encoder puts the weights.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

HERE = pathlib.Path(__file__).parent
TOKENS = 61  # odd, and longer than one block of any kernel's rows

MODELS = {
    "bert-bare": BertConfig(hidden_size=42, num_hidden_layers=3, num_attention_heads=3, intermediate_size=70,
                            vocab_size=89, max_position_embeddings=64, layer_norm_eps=1e-12),
    "bert-first": BertConfig(hidden_size=40, num_hidden_layers=2, num_attention_heads=5, intermediate_size=90,
                             vocab_size=61, max_position_embeddings=80, layer_norm_eps=1e-5, type_vocab_size=3),
}
NAMED_AS_IN_BERTS_FIRST_FILES = "bert-first"  # with a prefix, gamma and beta

SENTENCES = [
    "Cascade token selection keeps the few tokens that carry non-redundant information.",
    "Which tokens does a layer inherit from the layer before it?",
    "The Debian project publishes a free operating system, maintained by volunteers all over the world since 1993.",
    "Zażółć gęślą jaźń: 東京 and naïve café cost 3.14 euros!",
    "Rain.",
    "A package manager downloads archives, checks their signatures, unpacks the files, runs the maintainer's scripts, "
    "records what it has done, and, should anything fail half way, leaves the system in a state from which the "
    "administrator can recover; the same holds when the machine loses power in the middle of an upgrade, because each "
    "step is written down before it is taken and repeated when the tool is started again.",
]


def randomise(model):
    """The default initialisation hides errors: norms of 1, biases of 0."""
    for name, weight in model.named_parameters():
        shift = 1.0 if "LayerNorm" in name and name.endswith("weight") else 0.0
        torch.nn.init.normal_(weight, shift, 0.25)
        weight.data = weight.data.bfloat16().double()  # stored as BF16; computed in double, so that errors are ours


def first_name(name):
    return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def make_tiny(folder, config):
    torch.manual_seed(7)
    config._attn_implementation = "eager"
    model = BertModel(config, add_pooling_layer=False).eval().double()
    randomise(model)
    tokens = torch.randint(0, config.vocab_size, (1, TOKENS))
    with torch.no_grad():
        states = model(tokens, output_hidden_states=True).hidden_states

    folder.mkdir(exist_ok=True)
    golden = {f"layer_{index:02d}": x[0] for index, x in enumerate(states[:-1])}
    golden |= {"tokens": tokens, "final": states[-1][0]}
    save_file({name: x.float().contiguous() for name, x in golden.items()}, folder / "golden.safetensors")
    rename = first_name if folder.name == NAMED_AS_IN_BERTS_FIRST_FILES else lambda name: name
    weights = {rename(name): x.bfloat16().contiguous()
               for name, x in model.state_dict().items() if x.is_floating_point()}
    save_file(weights, folder / "model.safetensors")
    text = config.to_diff_dict() | {"model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(text, indent=2) + "\n")


def make_minilm(folder, weights):
    tokenizer = Tokenizer.from_file(f"{weights}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = BertModel.from_pretrained(weights, dtype=torch.float64, attn_implementation="eager").eval()
    golden, embeddings = {}, []
    for index, sentence in enumerate(SENTENCES):
        tokens = torch.tensor([tokenizer.encode(sentence).ids])
        with torch.no_grad():
            mean = model(tokens).last_hidden_state[0].mean(0)
        golden[f"tokens_{index}"] = tokens
        embeddings.append(mean / mean.norm())
    golden["embeddings"] = torch.stack(embeddings)
    folder.mkdir(exist_ok=True)
    save_file({name: x.float().contiguous() for name, x in golden.items()}, folder / "golden.safetensors")


def main():
    for name, config in MODELS.items():
        make_tiny(HERE / name, config)
    make_minilm(HERE / "minilm", sys.argv[1])


if __name__ == "__main__":
    main()
