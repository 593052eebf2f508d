"""Makes checkpoints of GPT-J 6B's and OPT 6.7B's shape with random 16-bit weights, and measures a run of one.

Random weights say what a model of this size costs; they say nothing about savings or quality.
"""
import argparse
import json
import math
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

import numpy as np

SHARD_BYTES = 2 << 30
ONE = 0x3C00  # 1.0 as F16
SHAPES = {  # config.json as the makers publish it, without what does not matter here
    "gpt-j-6b": {"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64,
                 "n_positions": 2048, "vocab_size": 50400, "activation_function": "gelu_new",
                 "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False},
    "opt-6.7b": {"model_type": "opt", "hidden_size": 4096, "ffn_dim": 16384, "num_hidden_layers": 32,
                 "num_attention_heads": 32, "max_position_embeddings": 2048, "vocab_size": 50272,
                 "word_embed_proj_dim": 4096, "activation_function": "relu", "do_layer_norm_before": True},
}


def fail(sentence):
    print(f"full_size.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def gptj_tensors(c):
    d, wide, vocabulary = c["n_embd"], 4 * c["n_embd"], c["vocab_size"]
    yield "transformer.wte.weight", [vocabulary, d]
    for layer in range(c["n_layer"]):
        prefix = f"transformer.h.{layer}."
        yield from norm(prefix + "ln_1", d)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield prefix + f"attn.{name}.weight", [d, d]
        yield from affine(prefix + "mlp.fc_in", wide, d)
        yield from affine(prefix + "mlp.fc_out", d, wide)
    yield from norm("transformer.ln_f", d)
    yield from affine("lm_head", vocabulary, d)


def opt_tensors(c):
    d, wide, prefix = c["hidden_size"], c["ffn_dim"], "model.decoder."
    yield prefix + "embed_tokens.weight", [c["vocab_size"], d]
    yield prefix + "embed_positions.weight", [c["max_position_embeddings"] + 2, d]
    for layer in range(c["num_hidden_layers"]):
        block = f"{prefix}layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from affine(f"{block}self_attn.{name}", d, d)
        yield from norm(block + "self_attn_layer_norm", d)
        yield from affine(block + "fc1", wide, d)
        yield from affine(block + "fc2", d, wide)
        yield from norm(block + "final_layer_norm", d)
    yield from norm(prefix + "final_layer_norm", d)


def affine(name, outputs, inputs):
    return [(name + ".weight", [outputs, inputs]), (name + ".bias", [outputs])]


def norm(name, width):
    return [(name + ".weight", [width]), (name + ".bias", [width])]


def into_shards(tensors):
    shards, room = [], 0
    for name, shape in tensors:
        size = 2 * math.prod(shape)
        if size > room:
            shards.append([])
            room = max(SHARD_BYTES, size)
        shards[-1].append((name, shape))
        room -= size
    return shards


def random_values(name, count, rng):
    """F16 bits: norms are 1, biases 0, and weights of either sign in [2^-6, 2^-5), so that no activation overflows."""
    if name.endswith(".bias"):
        return np.zeros(count, np.uint16)
    if "norm" in name or ".ln_" in name:
        return np.full(count, ONE, np.uint16)
    return (rng.integers(0, 1 << 16, count, np.uint16) & 0x83FF) | ((15 - 6) << 10)


def write_shard(path, shard, rng):
    header, end = {}, 0
    for name, shape in shard:
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shard:
            left = math.prod(shape)
            while left > 0:  # a piece at a time: this script needs little memory
                piece = min(left, 1 << 24)
                random_values(name, piece, rng).tofile(file)
                left -= piece


def make(name, folder):
    config = SHAPES[name]
    shards = into_shards((gptj_tensors if config["model_type"] == "gptj" else opt_tensors)(config))
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_shard(folder / file, shard, rng)
        weight_map |= {tensor: file for tensor, _ in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    return sum(math.prod(shape) for shard in shards for _, shape in shard)


def watched_run(command):
    """Runs a command; returns its wall time and CPU times, its peak memory, and the peak of what is not file pages."""
    begin = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    anonymous = 0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        for line in pathlib.Path(f"/proc/{child.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                anonymous = max(anonymous, 1024 * int(line.split()[1]))
        time.sleep(0.1)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        fail(f"{command[0]} ended with exit code {code}")
    return {"wall_seconds": round(time.monotonic() - begin, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_resident_bytes": 1024 * usage.ru_maxrss, "peak_anonymous_bytes": anonymous}


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    return {"cpu": cpu or platform.machine(), "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")}


def measure(name, arguments):
    folder = arguments.scratch / name
    shutil.rmtree(folder, ignore_errors=True)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(arguments.scratch).free < 15 << 30:
        fail(f"{arguments.scratch} has less than 15 GiB of room")
    try:
        print(f"==> Writing {name} into {folder}", file=sys.stderr)
        parameters = make(name, folder)
        rng = np.random.default_rng(2)
        tokens = rng.integers(0, SHAPES[name]["vocab_size"], arguments.length)
        (folder / "tokens.txt").write_text("".join(f"{token}\n" for token in tokens))
        print(f"==> Running {name}", file=sys.stderr)
        run = watched_run([arguments.program, "--model", folder, "--tokens", folder / "tokens.txt", "--length",
                           str(arguments.length), "--modes", arguments.modes, "--sweep", "none", "--threads",
                           str(arguments.threads), "--output", folder / "report"])
        modes = json.loads((folder / "report" / "report.json").read_text())["modes"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = {mode["name"]: {"attention_seconds": round(mode["attention_seconds"], 2),
                              "selection_seconds": round(mode["selection_seconds"], 2)} for mode in modes}
    return {"model": name, "parameters": parameters, "weight_type": "F16", "weight_bytes": 2 * parameters,
            "tokens": arguments.length, "threads": arguments.threads,
            "forward_passes": len({"dense"} | set(seconds))} | run | {"modes": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="cascada-evaluate")
    parser.add_argument("output", type=pathlib.Path, help="the JSON file to write")
    parser.add_argument("--models", default=",".join(SHAPES))
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--modes", default="dense,near-far")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--scratch", type=pathlib.Path, default="build/full-size", help="holds a checkpoint awhile")
    arguments = parser.parse_args()
    names = arguments.models.split(",")
    for name in names:
        if name not in SHAPES:
            fail(f"unknown model {name}; there are {', '.join(SHAPES)}")
    report = {"what": "random weights of a model's full size: memory and time, no claim about savings or quality",
              "machine": machine(), "runs": [measure(name, arguments) for name in names]}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
