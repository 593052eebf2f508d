#pragma once
// What a selection is asked for.

#include "cascada/config.hpp"
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

struct selection_options {
  float      threshold           = 0.8f;  // tau in (0, 1], a cosine
  assignment assign              = assignment::lowest_index;
  validation validate            = validation::exact;  // read by `cascade` only
  index_t    max_representatives = 0;                   // room reserved once; 0 means T
  prefilter  filter              = prefilter::automatic;
};

namespace detail {

/// The rows of table 8 of the design that concern the arguments of a selection. T = 0 is fine, whatever `data` is.
template <class Scalar>
[[nodiscard]] CASCADA_INLINE constexpr status check(const matrix_view<Scalar>&  x,
                                                    const selection_options& options) noexcept {
  if (x.rows < 0 || x.cols < 1 || x.stride < x.cols || options.max_representatives < 0) return status::invalid_shape;
  if (x.rows > 0 && !x.data) return status::invalid_shape;
  if (!(options.threshold > 0 && options.threshold <= 1)) return status::invalid_threshold;
  std::int64_t extent = 0, packed = 0;
  if (__builtin_mul_overflow(std::int64_t{x.rows}, x.stride, &extent) ||
      __builtin_mul_overflow(extent, static_cast<std::int64_t>(sizeof(Scalar)), &extent) ||
      __builtin_mul_overflow((std::int64_t{x.rows} + 64) * x.cols, static_cast<std::int64_t>(sizeof(float)), &packed))
    return status::too_large;
  return status::ok;
}

/// Room for representatives among `tokens` tokens.
[[nodiscard]] CASCADA_INLINE constexpr index_t room(const selection_options& options, index_t tokens) noexcept {
  return options.max_representatives == 0 || options.max_representatives > tokens ? tokens
                                                                                  : options.max_representatives;
}

}  // namespace detail
}  // namespace cascada::inline CASCADA_ABI
