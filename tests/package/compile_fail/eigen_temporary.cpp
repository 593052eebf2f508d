// A view of a matrix that is gone.

#include "cascada/eigen.hpp"

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

matrix make();

#if SHOULD_FAIL
cascada::index_t rows() { return cascada::view(make()).rows; }
#else
cascada::index_t rows() {
  const matrix m = make();
  return cascada::view(m).rows;
}
#endif
