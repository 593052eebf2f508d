// Rows of an unsupported scalar.

#include "cascada/cpu/select/selector.hpp"

#if SHOULD_FAIL
cascada::selector<double> selection;
#else
cascada::selector<float> selection;
#endif
