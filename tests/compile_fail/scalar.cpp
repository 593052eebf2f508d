// Rows of an unsupported scalar.

#include "cascada/select.hpp"

#if SHOULD_FAIL
cascada::selector<double> selection;
#else
cascada::selector<float> selection;
#endif
