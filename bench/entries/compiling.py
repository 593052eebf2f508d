"""How long a user's file takes to compile, with all kernels in it and with those of cascada::compiled."""
import os
import pathlib
import resource
import subprocess
import tempfile

import numpy as np

from harness.measure import Samples
from peers import Missing

ROOT = pathlib.Path(__file__).resolve().parents[2]
ONCE, IN_EACH = "ours", "all kernels in the file"


def _eigen():
    answer = subprocess.run(["pkg-config", "--cflags", "eigen3"], capture_output=True, text=True)
    if answer.returncode != 0:
        raise Missing("pkg-config does not know where Eigen is")
    return answer.stdout.split()


def _seconds(command):
    """CPU time of a compiler."""
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])  # noqa: E731
    before = used()
    subprocess.run(command, check=True)
    return used() - before


def compile_time(session):
    name = "compile_time"
    if not session.wants(name):
        return
    eigen = session.peer(name, _eigen)
    if eigen is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [os.environ.get("CXX", "g++"), "-std=c++20", "-O2", "-march=native", f"-I{ROOT}/include", *eigen,
                   "-c", f"{ROOT}/bench/compile_time.cpp", "-o", f"{folder}/object"]
        seconds = {IN_EACH: [_seconds(command)],
                   ONCE: [_seconds([*command, "-DCASCADA_COMPILED"]) for _ in range(1 if session.quick else 3)]}
    samples = Samples({side: np.array(times) for side, times in seconds.items()}, np.ones(1))
    session.entry(name, "cascade<float> and attention<float>, -O2", samples, peer=IN_EACH, measure="seconds",
                  values=samples.seconds[ONCE], target=4, T=0)


ENTRIES = [compile_time]
