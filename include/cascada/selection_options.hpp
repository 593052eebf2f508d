#pragma once
// What a selection is asked for.

#include <cstdint>
#include <limits>

#include "cascada/config.hpp"
#include "cascada/finite.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

/// Which covering representative stands for a token that does not keep the one it inherits.
enum class assignment {
  lowest_index,  // the first one found: stops early
  nearest,       // the one of largest cosine, ties to the lower index: compares with all, closer clusters
};

/// How the cascade validates an inherited set. Both give the same set and the same rep.
enum class validation {
  exact,       // only the pairs that the update needs
  cross_gram,  // all (T - r) x r cross-Gram pairs first, as in arXiv:2605.03110, then what the update needs
};

/// Estimates of inner products that a CPU tries first. They have proven bounds, and what they leave open is decided by
/// the products themselves: a prefilter changes time, never the result. What the target lacks is replaced by `none`.
enum class prefilter {
  automatic,     // what pays on the target; given up where it leaves too much open
  none,          // no estimates
  sketch,        // products over the coordinates that hold most of the energy
  bf16_vectors,  // products of rows rounded to bfloat16 (AVX512_BF16)
  bf16_tiles,    // the same by matrix instructions (AMX-BF16), where the process may use them
};

/// The value of selection_options::max_representatives by which all tokens may be representatives.
inline constexpr index_t no_limit = std::numeric_limits<index_t>::max();

/// Options of selector, growing_selection and cascade. Values out of range are refused by each call, in a sentence.
struct selection_options {
  float      threshold           = 0.8f;  // tau in (0, 1], a cosine
  assignment assign              = assignment::lowest_index;
  validation validate            = validation::exact;  // read by `cascade` only
  index_t    max_representatives = no_limit;           // >= 1; for more than T, room for T is reserved
  prefilter  filter              = prefilter::automatic;
};

namespace detail {

/// Below this tau, tau times the smallest norm would leave the normal range, and zero rows would cover others.
inline constexpr float smallest_threshold = 0x1p-90f;

/// Sizes that leave room to round up to blocks in index_t.
inline constexpr index_t largest_size = std::numeric_limits<index_t>::max() - 4096;

/// What can be refused of a selection by its arguments alone. No rows are fine, whatever their columns and data. O(1).
template <class Scalar>
[[nodiscard]] CASCADA_INLINE constexpr status check(const matrix_view<Scalar>& x,
                                                    const selection_options&   options) noexcept {
  if (options.max_representatives < 1)
    return {status::invalid_shape, "options.max_representatives is less than 1; no_limit makes room for all tokens"};
  if (!detail::positive_up_to(options.threshold, 1))
    return {status::invalid_threshold, "options.threshold does not lie in (0, 1]"};
  if (options.threshold < smallest_threshold)
    return {status::invalid_threshold, "options.threshold is below 2^-90, where its products with norms underflow"};
  if (x.rows < 0) return {status::invalid_shape, "x.rows is negative"};
  if (x.rows == 0) return status::ok;
  if (x.cols < 1) return {status::invalid_shape, "x.cols is less than 1"};
  if (x.rows > largest_size || x.cols > largest_size)
    return {status::too_large, "x has more rows or columns than 2^31 - 4097"};
  if (x.stride < x.cols) return {status::invalid_shape, "x.stride is less than x.cols"};
  if (!x.data) return {status::invalid_shape, "x.data is null"};
  if (overflows(x)) return {status::too_large, "x.rows times x.stride overflows"};
  std::int64_t packed = 0;  // rows, up to a block of them beyond the last
  if (__builtin_mul_overflow((std::int64_t{x.rows} + 64) * x.cols, static_cast<std::int64_t>(sizeof(float)), &packed))
    return {status::too_large, "x.rows times x.cols overflows"};
  return status::ok;
}

/// Room for representatives among `tokens` tokens.
[[nodiscard]] CASCADA_INLINE constexpr index_t room(const selection_options& options, index_t tokens) noexcept {
  return options.max_representatives < tokens ? options.max_representatives : tokens;
}

}  // namespace detail
}  // namespace cascada::inline CASCADA_ABI
