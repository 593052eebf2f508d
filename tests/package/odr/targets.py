#!/usr/bin/env python3
"""Holds cascada::compiled_isa to its promise: it differs wherever the compiler's macros say that code may.

targets.py [--write] COMPILER [FLAGS...]

Tries the compiler's own options for its target, and others that change code. Options that change a macro have to change
the value, and different values of the macros have to give different ones. --write adds the macros that are missing to
include/cascada/isa.hpp instead.
"""

import concurrent.futures
import re
import subprocess
import sys
import tempfile
from pathlib import Path

header = Path(__file__).resolve().parents[3] / "include/cascada/isa.hpp"

# Beyond what compilers list themselves.
processors = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "haswell", "skylake-avx512", "cooperlake", "sapphirerapids",
              "graniterapids", "diamondrapids", "znver1", "znver2", "znver3", "znver4", "znver5"]
architectures = [f"armv8{minor}-a" for minor in ("", ".1", ".2", ".3", ".4", ".5", ".6", ".7", ".8", ".9")]
architectures += [f"armv9{minor}-a" for minor in ("", ".1", ".2", ".3", ".4", ".5")]
extensions = """aes bf16 brbe crc crypto cssc d128 dotprod f32mm f64mm faminmax fcma flagm fp16 fp16fml fp8 fp8dot2 fp8dot4
fp8fma gcs hbc i8mm ite jscvt ls64 lse lse128 lut memtag mops mte nofp nosimd pauth pmuv3 predres predres2 profile rand ras
rcpc rcpc3 rdm rdma rng sb sha2 sha3 sm4 sme sme-f64f64 sme-i16i64 sme2 sme2p1 ssbs ssve-fp8dot2 sve sve-b16b16 sve2
sve2-aes sve2-bitperm sve2-sha3 sve2-sm4 sve2p1 the tme wfxt""".split()
arithmetic = ["-ffast-math", "-ffinite-math-only", "-freciprocal-math", "-fassociative-math", "-fno-signed-zeros",
              "-fno-math-errno", "-fno-trapping-math", "-frounding-math", "-fsignaling-nans", "-fno-exceptions",
              "-DEIGEN_ARM64_USE_SVE"]

# Which macros tell what may run, or how numbers behave. Others tell names of processors, sizes and formats of types
# (another binary interface: such objects do not link), or how code is addressed.
tells = re.compile(r"__[A-Z0-9][A-Z0-9_]*__|__3dNOW.*|__ARM_\w+|__FP_FAST_\w+|__GCC_HAVE_\w+|__EXCEPTIONS|EIGEN_\w+")
other = re.compile(r"__(U?INT|SIZE|PTR|LONG_|S?CHAR|WCHAR|WINT|SHRT|LDBL|DBL|FLT\d|STDC|GCC_IEC|GCC_ATOMIC|POINTER|AARCH64E|BYTE"
                   r"|FLOAT_W|REGISTER_P|USER_LABEL|HAVE_\w+TION|OPTIMIZE|BIGGEST_ALIGN|FLT_EVAL_METHOD_"
                   r"|DECIMAL|GNUC_\w+CHARSET|(LP|ILP)\d|PI[CE]__|ANDROID|gnu|SEH|SSP|MMX_WITH|CONSTANT_CF|BIG_END|LITTLE_END|GCC_HAVE_DWARF|GXX|VERSION|clang|CLANG)\w*"
                   r"|__ARM_(BIG_ENDIAN|SIZEOF\w+|FP16_(ARGS|FORMAT)\w*|STATE\w+)")


def run(compiler, arguments):
    answer = subprocess.run([*compiler, *arguments], capture_output=True, text=True)
    return answer.stdout if answer.returncode == 0 else None


def macros(compiler, option):
    """The telling macros that an option gives, or None if the compiler refuses it."""
    text = run(compiler, [*option, "-Werror", "-dM", "-E", "-x", "c++", "/dev/null"])
    if text is None or "__x86_64__ 1" not in text and "__aarch64__ 1" not in text or "ILP32" in text:
        return None
    pairs = (line.split(None, 2)[1:] for line in text.splitlines())
    return frozenset((name, "".join(value)) for name, *value in pairs if tells.fullmatch(name) and not other.fullmatch(name))


def options(compiler):
    """All that could change the target: the compiler's own lists, and those above."""
    listed = (run(compiler, ["--help=target"]) or "") + (run(compiler, ["--autocomplete=-m"]) or "")  # g++, clang
    flags = re.findall(r"^\s*(-m[a-z0-9.-]+)(?=\s|$)", listed, re.M)
    flags += ["-mno-" + flag[2:] for flag in flags if not flag.startswith("-mno-")]
    names = re.findall(r"Known valid arguments for -march= option:\n(.*)", listed)
    names = processors + [name for line in names for name in line.split()]
    result = [[flag] for flag in [*flags, *arithmetic]] + [[f"-march={name}"] for name in [*names, *architectures]]
    result += [["-march=x86-64-v3", flag] for flag in flags if flag.startswith("-mno-")]
    result += [[f"-march={base}+{extension}"] for base in ("armv8-a", "armv9-a") for extension in extensions]
    return [list(option) for option in dict.fromkeys(map(tuple, result))]


def value(compiler, option):
    """compiled_isa under an option, or None where not even the standard library compiles (-m32 without its headers)."""
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as source:
        source.write('#include "cascada/isa.hpp"\nextern const auto value = cascada::compiled_isa;\n')
        source.flush()
        text = run(compiler, [*option, "-std=c++20", f"-I{header.parents[1]}", "-S", "-o", "-", source.name])
    found = re.search(r"^value:\n\s+\.(?:quad|xword|dword)\s+(\S+)", text or "", re.M)
    return found and found.group(1)


def write(names):
    """Adds names to the header's list, which ends at an empty line; behind it, others stand."""
    text = header.read_text()
    begin, old, end = re.fullmatch(r"(.*TEXT_OF\(\n)(    __.*?)(\n\n.*)", text, re.S).groups()
    lines = ["   "]
    for name in sorted({*names, *old.split()} - set(re.findall(r"\w+", end.split(";")[0]))):
        if len(lines[-1]) + 1 + len(name) > 120:
            lines.append("   ")
        lines[-1] += " " + name
    header.write_text(begin + "\n".join(lines) + end)


def main():
    compiler = [argument for argument in sys.argv[1:] if argument != "--write"]
    plain = macros(compiler, [])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        tried = options(compiler)
        found = {}  # an option for each set of macros
        for option, defined in zip(tried, pool.map(lambda option: macros(compiler, option), tried)):
            if defined is not None:
                found.setdefault(defined, option)
        if "--write" in sys.argv:
            return write({name for defined in found for name, _ in defined ^ plain})
        values = {}
        wrong = []
        for (defined, option), number in zip(found.items(), pool.map(lambda option: value(compiler, option), found.values())):
            if number is None:
                continue
            if number in values:
                names = sorted({name for name, _ in defined ^ values[number][0]})
                wrong.append(f"{option} has the value of {values[number][1]}, but for {' '.join(names)}")
            values.setdefault(number, (defined, option))
    print(*wrong, sep="\n")
    print(f"{len(tried)} options, {len(found)} targets, {len(values)} values")
    # So few would mean that the compiler's lists were not understood.
    sys.exit(1 if wrong or len(found) < 40 else 0)


if __name__ == "__main__":
    main()
