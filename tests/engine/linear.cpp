// Weights where their file has them: blocks and rows, as stored and transposed, and products over several panels.

#include "engine/linear.hpp"

#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "catch.hpp"
#include "sample.hpp"

using namespace engine;
using tests::sample;

namespace {

constexpr stored_type stored_types[] = {stored_type::f32, stored_type::f16, stored_type::bf16};

template <class Stored>
using stored = Eigen::Matrix<Stored, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// x as `Stored`, one byte off every alignment.
template <class Stored>
stored_matrix unaligned(const matrix& x, stored_type type) {
  const stored<Stored> rounded = x.cast<Stored>();
  const auto           size    = static_cast<std::size_t>(rounded.size()) * sizeof(Stored);
  auto                 bytes   = std::make_shared<std::vector<std::byte>>(size + 1);
  std::memcpy(bytes->data() + 1, rounded.data(), size);
  return {bytes->data() + 1, type, rows_of(x), cols_of(x), bytes};
}

stored_matrix as_stored(const matrix& x, stored_type type) {
  if (type == stored_type::f16) return unaligned<Eigen::half>(x, type);
  if (type == stored_type::bf16) return unaligned<Eigen::bfloat16>(x, type);
  return unaligned<float>(x, type);
}

/// Whole numbers up to 15: exact in every type, and so are short sums of their products.
matrix whole_numbers(index_t rows, index_t cols) {
  return matrix::NullaryExpr(rows, cols, [](Eigen::Index i, Eigen::Index j) {
    return static_cast<float>((7 * i + 11 * j + i * j) % 31 - 15);
  });
}

}  // namespace

TEST_CASE("stored matrices: blocks and rows, as stored and transposed", "[golden]") {
  const stored_type   type  = GENERATE(from_range(sample(stored_types)));
  const matrix        x     = whole_numbers(9, 1100);
  const stored_matrix plain = as_stored(x, type), turned = plain.transpose();
  REQUIRE(turned.rows() == 1100);
  REQUIRE(turned.cols() == 9);

  matrix block, row(1, 1100), column(1, 9);
  plain.read_block(2, 3, 5, 1090, block);
  CHECK(block == x.block(2, 3, 5, 1090));
  turned.read_block(3, 2, 1090, 5, block);
  CHECK(block == x.block(2, 3, 5, 1090));
  plain.middle_rows(4, 3).read_row(2, row.data());
  CHECK(row == x.row(6));
  turned.middle_rows(7, 20).read_row(5, column.data());
  CHECK(column == x.col(12).transpose());
}

TEST_CASE("linear: products over several pieces and panels are exact on whole numbers", "[golden]") {
  const stored_type type      = GENERATE(from_range(sample(stored_types)));
  const bool        transpose = GENERATE(false, true);
  const auto        depth     = GENERATE(1, 1024, 2049);  // of a panel: below, at and above
  const matrix      x = whole_numbers(515, depth), w = whole_numbers(195, depth);
  CAPTURE(transpose, depth);
  const auto weight = transpose ? as_stored(w.transpose(), type).transpose() : as_stored(w, type);
  threads    pool(2);
  matrix     y;
  linear(x, weight, y, pool.where());
  CHECK(y == x.lazyProduct(w.transpose()));
}
