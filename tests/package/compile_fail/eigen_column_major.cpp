// Tokens as columns.

#include "cascada/eigen.hpp"

#if SHOULD_FAIL
constexpr auto order = Eigen::ColMajor;
#else
constexpr auto order = Eigen::RowMajor;
#endif

cascada::index_t rows(Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, order>& m) { return cascada::view(m).rows; }
