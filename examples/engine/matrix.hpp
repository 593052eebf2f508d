#pragma once
// The engine's matrices and threads, and how work on rows is spread over them.

#include <Eigen/Core>
#include <algorithm>

#include "cascada/backend.hpp"
#include "cascada/usable_cpus.hpp"
#include "cascada/views.hpp"

namespace engine {

using cascada::index_t;
using backend = cascada::default_backend;

/// Rows are tokens (activations) or output features (weights).
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using vector = Eigen::Matrix<float, 1, Eigen::Dynamic, Eigen::RowMajor>;

/// The backend on threads of its own.
class threads {
 public:
  static constexpr index_t most = 1024;  // far more than help, far fewer than a system refuses to start

  /// One for each CPU that affinity masks and quotas leave the process.
  static index_t usable() { return std::min(most, cascada::detail::usable_cpus<cascada::compiled_isa>()); }

  explicit threads(index_t count) : pool_(count) {}
  backend where() { return backend{.executor = {&pool_}}; }

 private:
  cascada::thread_pool<cascada::compiled_isa> pool_;
};

inline index_t rows_of(const matrix& x) { return static_cast<index_t>(x.rows()); }
inline index_t cols_of(const matrix& x) { return static_cast<index_t>(x.cols()); }

/// A [T, heads * dim] matrix as heads.
inline cascada::heads_view<const float> heads(const matrix& x, index_t count) {
  return cascada::packed_heads(x.data(), rows_of(x), count, cols_of(x) / count);
}
inline cascada::heads_view<float> heads(matrix& x, index_t count) {
  return cascada::packed_heads(x.data(), rows_of(x), count, cols_of(x) / count);
}

/// Calls f(begin, length) for consecutive pieces of [0, count), in parallel. Pieces do not depend on the number of
/// threads, so neither do results.
template <class Function>
void for_pieces(index_t count, index_t piece, const backend& where, Function&& f) {
  const index_t pieces = (count + piece - 1) / piece;
  where.executor.parallel_for(pieces, [&](index_t i) { f(i * piece, std::min(piece, count - i * piece)); });
}

}  // namespace engine
