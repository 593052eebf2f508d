// The kernels of the usual types (cascada/compiled.hpp).
#define CASCADA_COMPILE
#include "cascada/compiled.hpp"
