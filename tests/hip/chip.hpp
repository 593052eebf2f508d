#pragma once
// The chip that tests of the gfx942 backend run on: the real one for a HIP compiler, else the simulator.

#ifdef __HIP__
#include "hip/on_device.hpp"
#else
#include "hip/simulator.hpp"
#endif

#include <limits>

namespace simulator {

/// What `body` returns where the runtime takes so many of its requests, and refuses the others.
template <class Body>
auto with_requests(const stream& where, int taken, const Body& body) {
  struct ends {
    const stream& where;
    ~ends() { where.calls->most_requests = std::numeric_limits<int>::max(); }
  };
  const ends at_the_end{where};
  where.calls->most_requests = where.calls->requests + taken;
  return body();
}

}  // namespace simulator
