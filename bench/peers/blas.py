"""OpenBLAS and MKL: the T x T Gram matrix by sgemm or ssyrk, on rows of length 1, then a scan."""
import ctypes
import ctypes.util
import os
import pathlib
import sys
from ctypes import c_float, c_int, c_void_p

import numpy as np

from peers import Missing

ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, LOWER = 101, 111, 112, 122


class Blas:
    def __init__(self, name, path):
        try:
            self._c = ctypes.CDLL(path, mode=ctypes.RTLD_LOCAL)
        except OSError as error:
            raise Missing(f"{name}: {error}") from error
        self.name = name
        self._c.cblas_sgemm.argtypes = ([c_int] * 6 + [c_float, c_void_p, c_int, c_void_p, c_int, c_float, c_void_p]
                                        + [c_int])
        self._c.cblas_ssyrk.argtypes = [c_int] * 5 + [c_float, c_void_p, c_int, c_float, c_void_p, c_int]

    def sgemm(self, x, gram):
        tokens, cols = x.shape
        self._c.cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, tokens, tokens, cols, 1, x.ctypes.data, cols,
                            x.ctypes.data, cols, 0, gram.ctypes.data, tokens)

    def ssyrk(self, x, gram):
        """Half the work: below the diagonal only."""
        tokens, cols = x.shape
        self._c.cblas_ssyrk(ROW_MAJOR, LOWER, NO_TRANSPOSE, tokens, cols, 1, x.ctypes.data, cols, 0, gram.ctypes.data,
                            tokens)


def mkl():
    os.environ["MKL_THREADING_LAYER"] = "SEQUENTIAL"
    folder = pathlib.Path(sys.prefix) / "lib"
    found = sorted(folder.glob("libmkl_rt.so*"))
    if not found:
        raise Missing("MKL: no libmkl_rt in the virtual environment")
    return Blas("MKL", str(found[-1]))


def openblas():
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    path = ctypes.util.find_library("openblas")
    if not path:
        raise Missing("OpenBLAS: no libopenblas")
    return Blas("OpenBLAS", path)


class GramScan:
    """Selection as a BLAS user would write it. Buffers are made once, as ours are."""

    def __init__(self, library, multiply, tokens, cols, threshold):
        self._c, self._multiply, self._threshold = library.c, multiply, threshold
        self._unit = np.empty((tokens, cols), np.float32)
        self._gram = np.empty((tokens, tokens), np.float32)
        self._indices, self._rep = np.empty(tokens, np.int32), np.empty(tokens, np.int32)
        self.count = 0

    def __call__(self, rows):
        tokens, cols = rows.shape
        self._c.bench_normalize(rows.ctypes.data, tokens, cols, self._unit.ctypes.data)
        self._multiply(self._unit, self._gram)
        self.count = self._c.bench_scan(self._gram.ctypes.data, tokens, self._threshold, self._indices.ctypes.data,
                                        self._rep.ctypes.data)

    @property
    def indices(self):
        return self._indices[:self.count]
