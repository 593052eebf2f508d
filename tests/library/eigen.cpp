// The Eigen adapters: the same memory, seen from both sides.

#include "cascada/eigen.hpp"

#include <limits>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include "cascada/cpu/select/selector.hpp"
#include "catch.hpp"

using namespace cascada;

namespace {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

row_major numbered(index_t rows, index_t cols) {
  row_major m(rows, cols);
  std::iota(m.data(), m.data() + m.size(), 1.0f);
  return m;
}

template <class Matrix>
void check_same_elements(const Matrix& m, matrix_view<const float> v) {
  REQUIRE(v.rows == m.rows());
  REQUIRE(v.cols == m.cols());
  for (index_t i = 0; i < v.rows; ++i)
    for (index_t c = 0; c < v.cols; ++c) CHECK(&v.row(i)[c] == &m.coeffRef(i, c));
}

}  // namespace

TEST_CASE("eigen: a view shares the elements of a matrix, map, block and ref", "[eigen]") {
  const auto rows = GENERATE(1, 2, 7), cols = GENERATE(1, 3, 16);
  CAPTURE(rows, cols);
  row_major m = numbered(rows + 4, cols + 3);
  check_same_elements(m, view(m));

  auto block = m.block(2, 1, rows, cols);
  check_same_elements(block, view(block));
  auto block_of_block = block.bottomRows(1);
  check_same_elements(block_of_block, view(block_of_block));

  Eigen::Ref<row_major> ref(m);
  check_same_elements(ref, view(ref));

  // A padded map that starts off any vector boundary.
  std::vector<float>                                            memory(1 + static_cast<std::size_t>(rows * (cols + 5)));
  Eigen::Map<row_major, Eigen::Unaligned, Eigen::OuterStride<>> map(memory.data() + 1, rows, cols,
                                                                    Eigen::OuterStride<>(cols + 5));
  check_same_elements(map, view(map));
  CHECK(view(map).stride == cols + 5);
}

TEST_CASE("eigen: a view is writable exactly where the matrix is", "[eigen]") {
  row_major        m     = numbered(2, 3);
  const row_major& fixed = m;
  STATIC_REQUIRE(std::is_same_v<decltype(view(m)), matrix_view<float>>);
  STATIC_REQUIRE(std::is_same_v<decltype(view(fixed)), matrix_view<const float>>);
  view(m).row(1)[2] = -1.0f;
  CHECK(m(1, 2) == -1.0f);

  Eigen::Map<const row_major> map(m.data(), 2, 3);
  STATIC_REQUIRE(std::is_same_v<decltype(view(map)), matrix_view<const float>>);
}

TEST_CASE("eigen: sizes known to the type, arrays, and no rows at all", "[eigen]") {
  Eigen::Matrix<float, 3, 5, Eigen::RowMajor> fixed = numbered(3, 5);
  check_same_elements(fixed, view(fixed));
  Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> array = numbered(3, 5).array();
  check_same_elements(array, view(array));
  Eigen::RowVectorXf vector = numbered(1, 5);
  check_same_elements(vector, view(vector));
  row_major none(0, 5);
  CHECK(view(none).rows == 0);
  CHECK(view(none).cols == 5);
}

TEST_CASE("eigen: more rows than index_t counts are refused", "[eigen][errors]") {
  // Never read: only the sizes matter.
  Eigen::Map<const row_major> map(nullptr, Eigen::Index{1} << 32, 4);
  const auto                  v = view(map);
  CHECK(v.rows == std::numeric_limits<index_t>::max());
  const status answer = selector<float>()(v);
  CHECK(answer == status::too_large);
  CHECK(std::string(message(answer)) == "x has more rows or columns than 2^31 - 4097");
  Eigen::Map<const row_major> wide(nullptr, 4, Eigen::Index{1} << 32);
  CHECK(selector<float>()(view(wide)) == status::too_large);
}

TEST_CASE("eigen: as_eigen maps the rows of a view, padding apart", "[eigen]") {
  const auto rows = GENERATE(0, 1, 6), cols = GENERATE(1, 4), padding = GENERATE(0, 3);
  CAPTURE(rows, cols, padding);
  std::vector<float> memory(1 + static_cast<std::size_t>(rows * (cols + padding)), -1.0f);
  matrix_view<float> v{memory.data() + 1, rows, cols, cols + padding};
  as_eigen(v) = numbered(rows, cols);
  for (index_t i = 0; i < rows; ++i) {
    for (index_t c = 0; c < cols; ++c) CHECK(v.row(i)[c] == static_cast<float>(i * cols + c + 1));
    for (index_t c = cols; c < cols + padding; ++c) CHECK(v.row(i)[c] == -1.0f);
  }
  CHECK(memory[0] == -1.0f);
  const matrix_view<const float> fixed = v;
  CHECK(as_eigen(fixed).sum() == as_eigen(v).sum());

  auto       mapped = as_eigen(v);
  const auto again  = view(mapped);
  CHECK(again.data == v.data);
  CHECK(again.stride == v.stride);
}
