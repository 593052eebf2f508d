// An Eigen expression that has not been evaluated.

#include "cascada/eigen.hpp"

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

cascada::index_t rows(const matrix& a, const matrix& b) {
#if SHOULD_FAIL
  const auto sum = a + b;
#else
  const matrix sum = a + b;
#endif
  return cascada::view(sum).rows;
}
