#pragma once
// Rows for selections on the simulated gfx942, and what a set of the device has to be equal to.

#include <cmath>
#include <cstddef>
#include <vector>

#include "cascada/hip/base/downloaded_selection.hpp"
#include "cascada/representatives.hpp"
#include "catch.hpp"
#include "library/tokens.hpp"

namespace tests {

using namespace cascada;

/// Rows that the device takes, from rows that it does not.
template <class Scalar>
struct device_rows {
  device_rows(const tests::token_rows<Scalar>& from)
      : T(from.view().rows),
        d(from.view().cols),
        storage(static_cast<std::size_t>(T) * static_cast<std::size_t>(d + 8) / 8 + 1) {
    for (index_t i = 0; i < T; ++i)
      for (index_t k = 0; k < d; ++k) data()[i * (d + 8) + k] = from.view().row(i)[k];
    for (index_t i = 0; i < T; ++i)
      for (index_t k = d; k < d + 8; ++k)  // NaN shows in norms and chains; in sums of the matrix units 64 does
        data()[i * (d + 8) + k] = from_float<Scalar>(i % 2 == 0 ? std::nanf("") : 64.0f);
  }
  Scalar*                   data() { return reinterpret_cast<Scalar*>(storage.data()); }
  matrix_view<const Scalar> view() { return {data(), T, d, d + 8}; }

  struct alignas(16) eight {
    Scalar element[8];
  };
  index_t            T, d;
  std::vector<eight> storage;
};

inline void check_same(const hip::downloaded_selection& got, const representatives& want,
                       const selection_report& report) {
  CHECK(got.indices == to_vector(want.indices));
  CHECK(got.rep == to_vector(want.rep));
  CHECK(got.counts == to_vector(want.counts));
  CHECK(got.report.tokens == report.tokens);
  CHECK(got.report.representatives == report.representatives);
  CHECK(got.report.gram.selection == report.gram.selection);
  CHECK(got.report.gram.inherited == report.gram.inherited);
  CHECK(got.report.gram.validation == report.gram.validation);
  CHECK(got.report.gram.orphans == report.gram.orphans);
  CHECK(got.report.gram.cross_gram == report.gram.cross_gram);
  CHECK(got.report.jaccard == report.jaccard);
  CHECK(got.report.additions == report.additions);
  CHECK(got.report.removals == report.removals);
  CHECK(got.report.inherited == report.inherited);
  CHECK(got.report.orphans == report.orphans);
}

}  // namespace tests
