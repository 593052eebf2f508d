"""Models and texts for measure.py and paper_table.py. What cannot be had: one sentence, exit code 2."""
import pathlib
import sys

import torch
import transformers
from tokenizers import Tokenizer

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
import encode_text  # noqa: E402


def fail(sentence):
    print(f"{pathlib.Path(sys.argv[0]).name}: {' '.join(str(sentence).split())}", file=sys.stderr)
    sys.exit(2)


def load_model(folder, dtype=torch.float32):
    """A causal language model from a local folder; nothing is looked for elsewhere."""
    transformers.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    torch.set_grad_enabled(False)
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            pathlib.Path(folder).resolve(strict=True), dtype=dtype, local_files_only=True).eval()
    except Exception as error:  # whatever transformers finds wrong with it
        fail(f"cannot load {folder}: {error}")


def encode(folder, text, length):
    """The first tokens of a text, [1, length]."""
    path = pathlib.Path(folder) / "tokenizer.json"
    try:
        ids = encode_text.whole(Tokenizer.from_file(str(path)), pathlib.Path(text).read_text(encoding="utf-8"))
    except Exception as error:  # the tokenizers package raises bare Exception
        fail(f"cannot encode {text} with {path}: {error}")
    if len(ids) < length:
        fail(f"{text} has {len(ids)} tokens, fewer than {length}")
    return torch.tensor([ids[:length]])


def positions(model):
    """How many tokens a model takes, or no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or float("inf")


def perplexity(logits, tokens):
    """Of tokens [1, T] by the logits [1, T, vocabulary] before each."""
    return torch.nn.functional.cross_entropy(logits[0, :-1].float(), tokens[0, 1:]).exp().item()
