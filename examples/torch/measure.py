"""sdpa beside every preset on one model and one text. Called by examples/torch/run.sh."""
import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
import transformers

import cascada_attention
import models

ATTENTIONS = ("sdpa", *cascada_attention.PRESETS)


class Clock:
    """A streamer: when each token of generate() came."""

    def __init__(self):
        self.times = []

    def put(self, _):
        self.times.append(time.perf_counter())

    def end(self):
        pass

    def tokens_per_second(self):
        """The prompt is put first, then the token that its pass gave, then one for each step."""
        steps = self.times[1:]
        return (len(steps) - 1) / (steps[-1] - steps[0]) if len(steps) > 1 else None


class Attention:
    """One of ATTENTIONS in the model, while it is entered."""

    def __init__(self, model, name, features):
        self.model, self.name, self.features, self.used = model, name, features, None

    def __enter__(self):
        if self.name == "sdpa":
            self.model.set_attn_implementation("sdpa")
        else:
            self.used = cascada_attention.use(self.model, self.name, self.features)
        return self

    def __exit__(self, *_):
        if self.used is not None:
            self.used.remove()

    def keys_read(self):
        """Of those that dense attention reads."""
        costs = None if self.used is None else self.used.costs
        return costs["read"] / costs["dense"] if costs else 1.0


def prefill(model, tokens):
    begun = time.perf_counter()
    model(tokens, use_cache=True, logits_to_keep=1)
    return time.perf_counter() - begun


def generate(model, tokens, count, mask=None, clock=None):
    answer = model.generate(tokens, attention_mask=torch.ones_like(tokens) if mask is None else mask, do_sample=False,
                            max_new_tokens=count, min_new_tokens=count, streamer=clock, pad_token_id=0)
    return answer[:, tokens.shape[1]:]


def as_far_as_equal(some, others):
    """How many come before the first that differs."""
    return ([a == b for a, b in zip(some, others)] + [False]).index(False)


def compare(model, tokens, features):
    """What a text says of each attention: a row for each."""
    rows, sdpa = [], None
    for name in ATTENTIONS:
        print(f"==> {name}: {tokens.shape[1]} tokens", file=sys.stderr)
        with Attention(model, name, features) as attention:
            logits = model(tokens, use_cache=False).logits
            keys_read = attention.keys_read()
        sdpa = logits if sdpa is None else sdpa
        rows.append({"name": name, "perplexity": models.perplexity(logits, tokens), "keys_read": keys_read,
                     **differences(sdpa[0], logits[0]), "prefill_seconds": [], "tokens_per_second": []})
    return rows


def differences(logits, others):
    """KL to other logits [T, vocabulary] in nats, and how often the top token is the same; some rows at a time."""
    divergence = same = 0
    for some, other in zip(logits.split(256), others.split(256)):
        some, other = some.double().log_softmax(-1), other.double().log_softmax(-1)
        divergence += (some.exp() * (some - other)).sum().item()
        same += (some.argmax(-1) == other.argmax(-1)).sum().item()
    return {"divergence": divergence / len(logits), "same_top_token": same / len(logits)}


def measure(model, tokens, rows, arguments):
    """Rounds in which all take their turn. Each has run in compare(), so that memory and threads are there."""
    for number in range(arguments.rounds):
        for row in rows:
            print(f"==> round {number + 1} of {arguments.rounds}: {row['name']}", file=sys.stderr)
            with Attention(model, row["name"], arguments.features):
                row["prefill_seconds"].append(prefill(model, tokens))
                clock = Clock()
                row["generated"] = generate(model, tokens, arguments.tokens, clock=clock)[0].tolist()
                row["tokens_per_second"].append(clock.tokens_per_second())
    for row in rows:
        row["same_tokens"] = as_far_as_equal(row["generated"], rows[0]["generated"])


def padded_batch(model, tokens, rows, arguments):
    """Three prompts at once, padded on the left, beside each alone."""
    length = tokens.shape[1]
    prompts = [tokens[:, :size] for size in (length, length // 2 + 1, length // 3 + 1)]
    batch = torch.cat([torch.nn.functional.pad(prompt, (length - prompt.shape[1], 0)) for prompt in prompts])
    mask = torch.stack([torch.arange(length) >= length - prompt.shape[1] for prompt in prompts]).long()
    for row in rows:
        print(f"==> a padded batch: {row['name']}", file=sys.stderr)
        with Attention(model, row["name"], arguments.features):
            together = generate(model, batch, arguments.tokens, mask).tolist()
            alone = [generate(model, prompt, arguments.tokens)[0].tolist() for prompt in prompts]
        row["padded_as_alone"] = [as_far_as_equal(*pair) for pair in zip(together, alone)]


def show(rows, count):
    form = "{:<10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12}"
    print(form.format("attention", "perplexity", "KL, nats", "same top", "keys read", "prompt, s", "tokens/s",
                      "as sdpa", "padded"))
    for row in rows:
        rates = [rate for rate in row["tokens_per_second"] if rate is not None]
        print(form.format(
            row["name"], f"{row['perplexity']:.4f}", f"{row['divergence']:.5f}", f"{row['same_top_token']:.2%}",
            f"{row['keys_read']:.1%}", f"{statistics.median(row['prefill_seconds']):.3f}",
            f"{statistics.median(rates):.2f}" if rates else "", f"{row['same_tokens']} of {count}",
            "/".join(map(str, row["padded_as_alone"]))))
    print("\nas sdpa: generated tokens before the first that is not sdpa's. padded: those of three prompts in one "
          "padded batch before the first that the prompt alone does not get.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    for name in ("text", "output"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    for name in ("length", "tokens", "rounds"):
        parser.add_argument(f"--{name}", required=True, type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--features", default="residual")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model = models.load_model(arguments.model, getattr(torch, arguments.dtype))
    if arguments.length + arguments.tokens > models.positions(model):
        models.fail(f"the model has {models.positions(model)} positions, fewer than the "
                    f"{arguments.length + arguments.tokens} of prompt and answer")
    tokens = models.encode(arguments.model, arguments.text, arguments.length)

    rows = compare(model, tokens, arguments.features)
    measure(model, tokens, rows, arguments)
    padded_batch(model, tokens, rows, arguments)
    show(rows, arguments.tokens)
    report = {"model": pathlib.Path(arguments.model).name, "text": arguments.text.name, "length": arguments.length,
              "tokens": arguments.tokens, "dtype": arguments.dtype, "features": arguments.features,
              "threads": torch.get_num_threads(), "torch": torch.__version__,
              "transformers": transformers.__version__, "attentions": rows}
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        models.fail(f"cannot write {arguments.output}/report.json: {error.strerror}")
    print(f"\nWritten: {arguments.output}/report.json")


if __name__ == "__main__":
    main()
