#pragma once
// Which of two covering representatives a token takes.

#include "cascada/hip/gram/verdict.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

using namespace gram;

/// A covering representative: its position in R and, for assignment::nearest, its norm and the canonical product.
struct device_match {
  index_t position = -1;
  float   product  = 0;
  float   norm     = 1;
};

/// Whether `a` takes the place of `b`: of two, the lower one, or the nearer one with ties to the lower.
CASCADA_DEVICE CASCADA_INLINE bool replaces(const device_match& a, const device_match& b, assignment assign) {
  if (a.position < 0 || b.position < 0) return a.position >= 0;
  if (assign == assignment::lowest_index) return a.position < b.position;
  if (detail::nearer(a.product, a.norm, b.product, b.norm)) return true;
  return a.position < b.position && !detail::nearer(b.product, b.norm, a.product, a.norm);
}

}  // namespace cascada::inline CASCADA_ABI::hip::select
