#pragma once
// Linear layers: Eigen's matrix product, spread over the backend's threads.

#include <optional>

#include "engine/matrix.hpp"
#include "engine/stored_matrix.hpp"

namespace engine {

/// y [T, out] = x [T, in] W^T, W [out, in]. No more of W is float at a time than one panel per thread.
void linear(const matrix& x, const stored_matrix& weight, matrix& y, const backend& where);

/// A linear layer with a bias, and a cap.
struct affine {
  stored_matrix        weight;              // [out, in]
  matrix               bias;                // [1, out], or empty: none
  std::optional<float> cap = std::nullopt;  // > 0: results become cap tanh(result / cap); nullopt: none

  void operator()(const matrix& x, matrix& y, const backend& where) const;
};

}  // namespace engine
