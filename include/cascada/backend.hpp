#pragma once
// Which kernels run, and where: a tag type with a value.
//
// The tag is a template parameter down to the last kernel. It tells the settings of the translation unit apart
// (isa.hpp), so objects compiled for different instructions instantiate different symbols and may be linked together.

#include <concepts>

#include "cascada/config.hpp"
#include "cascada/executor.hpp"
#include "cascada/isa.hpp"
#include "cascada/thread_pool.hpp"

namespace cascada::inline CASCADA_ABI {

/// The CPU: kernels for `Isa`, run by `Executor` (a pool of threads by default: thread_pool.hpp).
template <isa Isa = compiled_isa, executor Executor = pool_executor<Isa>>
struct cpu {
  static constexpr isa instructions = Isa;
  // One correctly rounded fused multiply-add per element, in vectors. Without it std::fma does the exact sums.
  static constexpr bool has_fma = contains(Isa, isa::fma);

  [[no_unique_address]] Executor executor{};
};

namespace detail {
template <class>
inline constexpr bool is_cpu = false;
template <isa Isa, class Executor>
inline constexpr bool is_cpu<cpu<Isa, Executor>> = true;
}  // namespace detail

/// A cpu<..>, whatever its instructions and its executor.
template <class B>
concept cpu_backend = detail::is_cpu<B>;

/// AMD's gfx942 (hip/base/backend.hpp): a type that says so by its `architecture`.
struct gfx942;

/// A tag whose kernels are those of gfx942.
template <class B>
concept gfx942_backend = std::same_as<typename B::architecture, gfx942>;

/// What every stage takes as a template parameter: its classes as the last, functions as the first.
template <class B>
concept backend = cpu_backend<B> || gfx942_backend<B>;

/// Always a CPU: an accelerator is named by the caller, because the meaning of a pointer must not change with the
/// compiler.
using default_backend = cpu<>;

}  // namespace cascada::inline CASCADA_ABI
