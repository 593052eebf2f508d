#pragma once
// The simulator's names for a gfx942 that is there: what a HIP compiler makes of cascade.cpp, growing.cpp,
// attention.cpp, chains.cpp, opening.cpp, decode.cpp, layouts.cpp and merge.cpp beside this file runs on it. The tests'
// memory is the host's, and the chip reads and writes it where it lies: HSA_XNACK=1, and a system whose device has
// pageableMemoryAccess. Seeds choose nothing.

#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <type_traits>

#include "cascada/hip/base/runtime.hpp"

namespace simulator {

using namespace cascada;

/// What the host has asked a stream for.
struct stream_calls {
  int launches = 0, allocations = 0, waits = 0, blocks = 0;
  int requests         = 0;                                // launches, copies and clears
  int most_allocations = std::numeric_limits<int>::max();  // more fail
  int most_requests    = std::numeric_limits<int>::max();  // the same

  bool captured = false;  // what is put on the stream goes into a graph
};

/// The default stream; what was launched has run when the call returns.
struct stream {
  using architecture = gfx942;

  hip_gfx942                    where = {};
  std::shared_ptr<stream_calls> calls = std::make_shared<stream_calls>();

  template <class Kernel>
  [[nodiscard]] status launch(const Kernel& kernel) const {
    ++calls->launches;
    calls->blocks += kernel.grid();
    const status answer = put([&] { return where.launch(kernel); });
    return answer != status::ok || calls->captured ? answer : finished();
  }

  void* allocate(std::size_t bytes) const {
    if (calls->captured) throw std::runtime_error("memory is allocated while a graph is captured");
    if (++calls->allocations > calls->most_allocations) return nullptr;
    void* const memory = where.allocate(bytes);
    const bool  filled = memory && hipMemset(memory, 0xff, bytes) == hipSuccess && finished() == status::ok;
    return filled ? memory : nullptr;  // NaN, and indices that no array has
  }
  void release(void* memory) const { where.release(memory); }

  [[nodiscard]] status clear(void* memory, std::size_t bytes) const {
    return put([&] { return where.clear(memory, bytes); });
  }
  [[nodiscard]] status copy(void* to, const void* from, std::size_t bytes) const {
    return put([&] { return where.copy(to, from, bytes); });
  }
  [[nodiscard]] status upload(void* to, const void* from, std::size_t bytes) const {
    ++calls->waits;
    return put([&] { return where.upload(to, from, bytes); });
  }
  [[nodiscard]] status download(void* to, const void* from, std::size_t bytes) const {
    ++calls->waits;
    return put([&] { return where.download(to, from, bytes); });
  }

 private:
  template <class Step>
  status put(const Step& step) const {
    return ++calls->requests > calls->most_requests ? status(status::device_error) : step();
  }
  static status finished() { return hip::status_of(hipDeviceSynchronize()); }
};

/// Throws what a call of the runtime failed with.
inline void require(hipError_t error) {
  if (error != hipSuccess) throw std::runtime_error(hipGetErrorString(error));
}

/// A stream of its own, which can be captured; the default one cannot. It stays until the program ends.
inline stream capturable(unsigned) {
  hipStream_t own = nullptr;
  require(hipStreamCreate(&own));
  return {.where = {own}};
}

/// What was put on a stream while it was captured, to be done any number of times, with the arguments of then.
class graph {
 public:
  graph(const stream& where, hipGraph_t captured) : where_(hip::stream_of(where.where)) {
    hipGraphExec_t runs = nullptr;
    require(hipGraphInstantiate(&runs, captured, nullptr, nullptr, 0));
    runs_ = {runs, [](hipGraphExec_t last) { static_cast<void>(hipGraphExecDestroy(last)); }};
    require(hipGraphDestroy(captured));
  }

  void replay() const {
    require(hipGraphLaunch(runs_.get(), where_));
    require(hipStreamSynchronize(where_));
  }

 private:
  hipStream_t                                            where_;
  std::shared_ptr<std::remove_pointer_t<hipGraphExec_t>> runs_;
};

/// What `body` puts on a stream, none of which runs before it is replayed.
template <class Body>
graph capture(const stream& where, const Body& body) {
  hipGraph_t captured = nullptr;
  require(hipStreamBeginCapture(hip::stream_of(where.where), hipStreamCaptureModeThreadLocal));
  where.calls->captured = true;
  try {
    body();
  } catch (...) {
    where.calls->captured = false;
    static_cast<void>(hipStreamEndCapture(hip::stream_of(where.where), &captured));
    throw;
  }
  where.calls->captured = false;
  require(hipStreamEndCapture(hip::stream_of(where.where), &captured));
  return {where, captured};
}

inline stream seeded(unsigned) { return {}; }
inline stream steady(unsigned) { return {}; }

template <class Kernel>
void launch(const Kernel& kernel, std::mt19937&) {
  if (stream{}.launch(kernel) != status::ok) throw std::runtime_error(hipGetErrorString(hipGetLastError()));
}

}  // namespace simulator
