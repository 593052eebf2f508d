// An Eigen matrix of double.

#include "cascada/eigen.hpp"

#if SHOULD_FAIL
using scalar = double;
#else
using scalar = float;
#endif

cascada::index_t rows(Eigen::Matrix<scalar, 4, 4, Eigen::RowMajor>& m) { return cascada::view(m).rows; }
