// A backend that is none.

#include "cascada/cpu/select/selector.hpp"

struct quantum {};

#if SHOULD_FAIL
cascada::selector<float, quantum> selection;
#else
cascada::selector<float, cascada::cpu<> > selection;
#endif
