// Where Eigen has no vectors, "fused" multiply-adds would be rounded twice, and kernels' own registers would not fit.
#if SHOULD_FAIL
#define EIGEN_DONT_VECTORIZE
#endif
#include "cascada/cpu/select/cascade.hpp"

cascada::cascade<float> walk;
