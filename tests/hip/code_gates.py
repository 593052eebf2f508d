#!/usr/bin/env python3
"""Compiles every kernel of the backend for gfx942 and inspects the machine code.

code_gates.py --check    fails where a gate fails, with clang 19 or, if it is installed, 22, but for what the backend's
                         page says of clang 22; exit 77 without clang 19
code_gates.py --table    prints the table of bench/results/gfx942.md, from clang 19

Gates: no spills, no scratch, at most 64 KiB of shared memory, no flat (generic address) access, a cap on registers,
subnormals on, and matrix instructions where a kernel is for them. No moves between accumulation and vector registers,
but in attend at head_dim 256, which has one wave to a SIMD: in a turn of a loop as many as logits take, since O stays.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from loops import turns  # noqa: E402

root = Path(__file__).resolve().parents[2]
source = root / "tests/hip/kernels.hip"
target = ["-x", "hip", "--offload-arch=gfx942", "-nogpulib", "-nogpuinc", "-std=c++20", "-O3", "--cuda-device-only",
          "--no-gpu-bundle-output", "-Rpass-analysis=kernel-resource-usage", "-Wall", "-Wextra", "-Wno-pass-failed"]

versions = 19, 22  # of clang; the table is from the first
between = "moves between accumulation and vector registers"
known = {22: [(r"open_leaves<linked_leaves<rows_in_pages>>", "spills"),  # two scalar registers, to lanes of a vector one
              (r"attend<\w+, 256, ", between)]}  # of O, in the loop over tiles with masks
vector_cap = 256  # two waves on each SIMD
has_all = re.compile(r"attend<\w+, 256, ")  # one wave: twice the registers, half of them for accumulation
moves_of_logits = 96  # in a turn: 16 go there and back for what leaves count, for their corrections, and for products
uses_matrix_units = ("selection_graph", "selection_cross_gram", "selection_advance", "meet_kept", "attend", "ask_leaves",
                     "find_anchors", "meet_anchors", "find_grown_anchors", "meet_grown_anchors")


def compile_kernels(folder, version=versions[0]):
    """Assembly text and the compiler's remarks on it."""
    assembly = Path(folder) / "kernels.s"
    command = [f"clang++-{version}", *target, f"-I{root / 'include'}", "-S", str(source), "-o", str(assembly)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0 or "warning:" in run.stderr:
        sys.exit(run.stderr)
    return assembly.read_text(), run.stderr


def readable(symbols):
    """Names without the namespace: {symbol: selection_graph<bfloat16>}."""
    tool = "llvm-cxxfilt-19" if shutil.which("llvm-cxxfilt-19") else "c++filt"
    names = subprocess.run([tool, *symbols], capture_output=True, text=True, check=True).stdout.splitlines()
    strip = re.compile(r"cascada::(v[0-9_]+::)?(hip::(?:gram::|select::|attention::)?)?|\(.*\)(?=[,>])|^void |\(cascada.*$")
    result = {}
    for symbol, name in zip(symbols, names):
        name = name[name.index("entry<") + len("entry<"):]
        name = re.sub(r"\((?:cascada::)?(?:v[0-9_]+::)?(\w+)\)(\d)", r"\1 \2", name)
        result[symbol] = strip.sub("", name[:name.rindex(">(")]).strip()
    return result


def read(assembly, remarks):
    """One dictionary for each kernel."""
    kernels = []
    for block in re.split(r"remark: Function Name: ", remarks)[1:]:
        symbol = block.split()[0]
        number = lambda what: int(re.search(re.escape(what) + r": (\d+)", block).group(1))
        body = re.search(rf"^{re.escape(symbol)}:.*?\n(.*?)^\.Lfunc_end", assembly, re.S | re.M).group(1)
        descriptor = re.search(rf"\.amdhsa_kernel {re.escape(symbol)}\n(.*?)\.end_amdhsa_kernel", assembly, re.S).group(1)
        size = re.search(rf"; Kernel info:\n; codeLenInByte = (\d+)", assembly[assembly.index(f"\n{symbol}:"):]).group(1)
        kernels.append({
            "symbol": symbol,
            "vgprs": number("VGPRs"), "agprs": number("AGPRs"), "sgprs": number("SGPRs"),
            "scratch": number("ScratchSize [bytes/lane]"),
            "scalar spills": number("SGPRs Spill"), "vector spills": number("VGPRs Spill"),
            "waves": number("Occupancy [waves/SIMD]"), "lds": number("LDS Size [bytes/block]"),
            "mfma": len(re.findall(r"\bv_mfma_", body)), "moves": len(re.findall(r"\bv_accvgpr_", body)),
            "turns": [steady for steady, _ in turns(body)],
            "flat": len(re.findall(r"\bflat_(?:load|store|atomic)", body)), "bytes": int(size),
            "subnormals": all(f".amdhsa_float_denorm_mode_{bits} 3" in descriptor for bits in ("32", "16_64")),
        })
    names = readable([kernel["symbol"] for kernel in kernels])
    for kernel in kernels:
        kernel["name"] = names[kernel["symbol"]]
    return kernels


def failures(kernel):
    alone = has_all.match(kernel["name"])
    moves = max([sum("v_accvgpr_" in line for line in turn) for turn in kernel["turns"]], default=0)
    gates = {
        # Those of a kernel that has all registers end in others: moves.
        "spills": kernel["scalar spills"] == 0 and (alone or kernel["vector spills"] == 0),
        "scratch memory": kernel["scratch"] == 0,
        "more than 64 KiB of shared memory": kernel["lds"] <= 64 * 1024,
        between: kernel["moves"] == 0 or (alone and moves <= moves_of_logits),
        "flat memory access": kernel["flat"] == 0,
        f"more than {vector_cap} vector registers": alone or kernel["vgprs"] + kernel["agprs"] <= vector_cap,
        "subnormals are flushed": kernel["subnormals"],
        "no matrix instructions": kernel["mfma"] > 0 or not kernel["name"].startswith(uses_matrix_units),
    }
    return [what for what, holds in gates.items() if not holds]


def table(kernels):
    rows = ["| kernel | vector registers | scalar registers | LDS bytes | waves a SIMD | matrix instructions | code bytes |",
            "|---|---|---|---|---|---|---|"]
    for k in kernels:
        vectors = f"{k['vgprs']} + {k['agprs']}" if k["agprs"] else k["vgprs"]
        rows.append(f"| `{k['name']}` | {vectors} | {k['sgprs']} | {k['lds']} | {k['waves']} | {k['mfma']} | {k['bytes']} |")
    return "\n".join(rows)


def main():
    if not shutil.which(f"clang++-{versions[0]}"):
        print(f"clang++-{versions[0]} is not installed")
        sys.exit(77)
    bad = []
    for version in versions if "--check" in sys.argv else versions[:1]:
        if not shutil.which(f"clang++-{version}"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            kernels = read(*compile_kernels(folder, version))
        if "--table" in sys.argv:
            print(table(kernels))
        found = [f"clang {version}, {kernel['name']}: {what}" for kernel in kernels for what in failures(kernel)
                 if not any(re.match(name, kernel["name"]) and what == of for name, of in known.get(version, []))]
        found += [] if kernels else [f"clang {version}: no kernels"]
        print(*found, f"clang {version}: {len(kernels)} kernels for gfx942, {len(found)} failures", sep="\n", file=sys.stderr)
        bad += found
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
