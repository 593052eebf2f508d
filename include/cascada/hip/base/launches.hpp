#pragma once
// Kernels put on a stream one after the other, until one fails.

#include "cascada/hip/base/backend.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Launches kernels until one fails.
template <gfx942_stream B>
class launches {
 public:
  explicit launches(const B& where) : where_(where) {}

  template <class Kernel>
  void operator()(const Kernel& kernel) {
    if (answer_ == status::ok) answer_ = where_.launch(kernel);
  }
  status answer() const { return answer_; }

 private:
  const B& where_;
  status   answer_ = status::ok;
};

}  // namespace cascada::inline CASCADA_ABI::hip
