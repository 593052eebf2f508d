#pragma once
// What the programs for gfx942 share: rows on the device, tokens that move from layer to layer, a stopwatch.

#include "cascada/hip.hpp"  // first: clang's own headers want the macros of the runtime's

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace examples {

using namespace cascada;
using scalar = bfloat16;

inline void require(hipError_t error, const char* what) {
  if (error == hipSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, hipGetErrorString(error));
  std::exit(1);
}

inline void require(status answer, const char* what) {
  if (answer == status::ok) return;
  std::fprintf(stderr, "%s: %s\n", what, message(answer));
  std::exit(1);
}

/// Rows on the device, and where they came from.
template <class Scalar>
struct mirrored {
  std::vector<Scalar> host;
  Scalar*             device = nullptr;

  explicit mirrored(std::size_t count) : host(count) {
    require(hipMalloc(reinterpret_cast<void**>(&device), count * sizeof(Scalar)), "hipMalloc");
  }
  ~mirrored() { static_cast<void>(hipFree(device)); }
  mirrored(const mirrored&)            = delete;
  mirrored& operator=(const mirrored&) = delete;

  void send(const hip_gfx942& where) {
    require(where.upload(device, host.data(), host.size() * sizeof(Scalar)), "upload");
  }
  /// NaN, so that rows that nobody writes show.
  void spoil(const hip_gfx942& where) {
    std::fill(host.begin(), host.end(), from_float<Scalar>(std::nanf("")));
    send(where);
  }
  void fetch(const hip_gfx942& where) {
    require(where.download(host.data(), device, host.size() * sizeof(Scalar)), "download");
  }
};

/// Tokens of one layer: clusters of four, moved a little from layer to layer.
inline void make_layer(std::vector<scalar>& rows, index_t tokens, index_t width, unsigned layer) {
  std::mt19937                    random(layer);
  std::normal_distribution<float> noise(0.0f, 0.3f);
  for (index_t t = 0; t < tokens; ++t) {
    std::mt19937                    home(static_cast<unsigned>(t / 4 * 2654435761u));
    std::normal_distribution<float> center;
    for (index_t c = 0; c < width; ++c)
      rows[static_cast<std::size_t>(t) * static_cast<std::size_t>(width) + static_cast<std::size_t>(c)] =
          from_float<scalar>(center(home) + noise(random));
  }
}

/// Milliseconds between two events on the stream.
class stopwatch {
 public:
  explicit stopwatch(hipStream_t stream) : stream_(stream) {
    require(hipEventCreate(&begin_), "hipEventCreate");
    require(hipEventCreate(&end_), "hipEventCreate");
    require(hipEventRecord(begin_, stream_), "hipEventRecord");
  }
  double stop() {
    float milliseconds = 0;
    require(hipEventRecord(end_, stream_), "hipEventRecord");
    require(hipEventSynchronize(end_), "hipEventSynchronize");
    require(hipEventElapsedTime(&milliseconds, begin_, end_), "hipEventElapsedTime");
    static_cast<void>(hipEventDestroy(begin_)), static_cast<void>(hipEventDestroy(end_));
    return static_cast<double>(milliseconds);
  }

 private:
  hipStream_t stream_;
  hipEvent_t  begin_ = nullptr, end_ = nullptr;
};

}  // namespace examples
