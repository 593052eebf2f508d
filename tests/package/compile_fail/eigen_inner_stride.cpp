// Rows whose elements lie apart.

#include "cascada/eigen.hpp"

#if SHOULD_FAIL
using stride = Eigen::Stride<Eigen::Dynamic, 2>;
#else
using stride = Eigen::OuterStride<>;
#endif
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

cascada::index_t rows(Eigen::Map<matrix, Eigen::Unaligned, stride>& m) { return cascada::view(m).rows; }
