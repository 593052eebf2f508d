#pragma once
// The chip that tests of the gfx942 backend run on: the real one for a HIP compiler, else the simulator.

#ifdef __HIP__
#include "hip/on_device.hpp"
#else
#include "hip/simulator.hpp"
#endif
