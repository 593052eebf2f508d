// Eigen 3.3 lacks packets that kernels need, and lets the compiler say so by the hundred.
#include <Eigen/Core>
#if SHOULD_FAIL
#undef EIGEN_MAJOR_VERSION
#undef EIGEN_MINOR_VERSION
#define EIGEN_MAJOR_VERSION 3
#define EIGEN_MINOR_VERSION 3
#endif
#include "cascada/cpu/select/cascade.hpp"

cascada::cascade<float> walk;
