#pragma once
// What all classes of selection ask of their arguments and put on the stream.

#include <cstdint>

#include "cascada/hip/base/launches.hpp"
#include "cascada/hip/select/advance.hpp"
#include "cascada/owned_representatives.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// What the arguments of a call alone tell.
template <matrix_scalar Scalar>
[[nodiscard]] status check(const matrix_view<const Scalar>& x, const selection_options& options) noexcept {
  if (const status answer = detail::check(x, options); answer != status::ok) return answer;
  if (x.rows == 0) return status::ok;
  if (x.cols % 8 != 0) return {status::unsupported_by_device, "x.cols is no multiple of 8, as gfx942 needs it"};
  if (x.cols > max_columns) return {status::unsupported_by_device, "x.cols is more than 2^18, too much for gfx942"};
  if (reinterpret_cast<std::uintptr_t>(x.data) % 16 != 0 || x.stride % 8 != 0)
    return {status::unsupported_by_device, "x is not on 16-byte boundaries, row by row, as gfx942 needs it"};
  return status::ok;
}

/// The advance through all stretches of a call.
template <gfx942_stream B, matrix_scalar Scalar, template <class> class Rows>
void launch_advance(launches<B>& launch, const selection_call<Scalar, Rows>& call) {
  for (index_t s = 0; s < call.stretches(); ++s)
    if (call.assign == assignment::nearest)
      launch(selection_advance<Scalar, assignment::nearest, Rows>{call, s});
    else
      launch(selection_advance<Scalar, assignment::lowest_index, Rows>{call, s});
}

/// Waits for the stream and copies the set of `tokens` tokens that `layer` has.
template <gfx942_stream B>
[[nodiscard]] status download_set(const B& where, const layer_memory& layer, index_t count, index_t tokens,
                                  owned_representatives& to) {
  const auto r = static_cast<std::size_t>(count), T = static_cast<std::size_t>(tokens);
  to.indices.resize(r), to.counts.resize(r), to.rep.resize(T);
  status answer = where.download(to.indices.data(), layer.indices, r * sizeof(index_t));
  if (answer == status::ok) answer = where.download(to.counts.data(), layer.counts, r * sizeof(index_t));
  return answer == status::ok ? where.download(to.rep.data(), layer.rep, T * sizeof(index_t)) : answer;
}

}  // namespace cascada::inline CASCADA_ABI::hip::select
