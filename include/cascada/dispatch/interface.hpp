#pragma once
// What dispatch asks of a level: an abstract class for each class of the library, and functions that make them.
//
// Calls go through virtual functions and plain types, so the caller and the kernels may be compiled for different
// instructions.

#include <cstddef>
#include <memory>
#include <span>

#include "cascada/attention_call.hpp"
#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/config.hpp"
#include "cascada/dispatch/any_executor.hpp"
#include "cascada/dispatch/any_kv.hpp"
#include "cascada/dispatch/levels.hpp"
#include "cascada/representatives.hpp"
#include "cascada/scalar.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/selection_report.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::dispatch::detail {

template <row_scalar Scalar>
struct any_selector {
  using options_type = selection_options;

  virtual ~any_selector()                                                    = default;
  virtual std::unique_ptr<any_selector> copy() const                         = 0;
  virtual status                        select(matrix_view<const Scalar> x)  = 0;
  virtual status                        literal(matrix_view<const Scalar> x) = 0;
  virtual representatives               kept() const noexcept                = 0;
  virtual selection_report              report() const noexcept              = 0;
};

template <row_scalar Scalar>
struct any_cascade {
  using options_type = selection_options;

  virtual ~any_cascade()                                         = default;
  virtual status           step(matrix_view<const Scalar> x)     = 0;
  virtual status           inherit(const representatives& state) = 0;
  virtual void             reset() noexcept                      = 0;
  virtual status           fork(any_cascade& to) const           = 0;  // of the same level
  virtual representatives  kept() const noexcept                 = 0;
  virtual selection_report report() const noexcept               = 0;
};

template <row_scalar Scalar>
struct any_growing_selection {
  using options_type = selection_options;

  virtual ~any_growing_selection()                                                             = default;
  virtual std::unique_ptr<any_growing_selection> copy() const                                  = 0;
  virtual status           extend(matrix_view<const Scalar> x, std::span<const index_t> below) = 0;
  virtual status           truncate(index_t tokens) noexcept                                   = 0;
  virtual void             clear() noexcept                                                    = 0;
  virtual status           fork(any_growing_selection& to) const           = 0;  // of the same level
  virtual std::size_t      saved_bytes() const noexcept                    = 0;
  virtual status           save(std::span<std::byte> bytes) const noexcept = 0;
  virtual status           load(std::span<const std::byte> bytes)          = 0;
  virtual representatives  kept() const noexcept                           = 0;
  virtual selection_report report() const noexcept                         = 0;
  virtual std::size_t      bytes() const noexcept                          = 0;
};

/// Options: the number of tokens to reserve for.
template <row_scalar Scalar>
struct any_attention_state {
  using options_type = index_t;

  virtual ~any_attention_state()                                                               = default;
  virtual std::unique_ptr<any_attention_state> copy() const                                    = 0;
  virtual index_t                              tokens() const noexcept                         = 0;
  virtual void                                 clear() noexcept                                = 0;
  virtual void                                 reserve(index_t tokens) noexcept                = 0;
  virtual status                               truncate(index_t tokens) noexcept               = 0;
  virtual std::size_t                          saved_bytes() const noexcept                    = 0;
  virtual status                               save(std::span<std::byte> bytes) const noexcept = 0;
  virtual std::size_t                          bytes() const noexcept                          = 0;
};

/// States are of the same level.
template <row_scalar Scalar>
struct any_attention {
  using options_type = attention_options;

  virtual ~any_attention()                                                                                    = default;
  virtual std::unique_ptr<any_attention> copy() const                                                         = 0;
  virtual status attend(heads_view<const Scalar> q, const any_kv& kv, std::span<const representatives> selections,
                        heads_view<Scalar> out, const attention_call& call)                                   = 0;
  virtual status extend(any_attention_state<Scalar>& state, heads_view<const Scalar> q, const any_kv& kv,
                        std::span<const representatives> selections, heads_view<Scalar> out,
                        const attention_extension& call)                                                      = 0;
  virtual status load(any_attention_state<Scalar>& state, const any_kv& kv, std::span<const std::byte> bytes) = 0;
  virtual attention_report report() const noexcept                                                            = 0;
};

/// Null where there are no kernels for such rows.
template <class Interface>
struct maker {
  std::unique_ptr<Interface> (*make)(const typename Interface::options_type&, const any_executor&) = nullptr;
};

template <row_scalar Scalar>
struct makers_for : maker<any_selector<Scalar>>,
                    maker<any_cascade<Scalar>>,
                    maker<any_growing_selection<Scalar>>,
                    maker<any_attention_state<Scalar>>,
                    maker<any_attention<Scalar>> {};

/// All that a level has.
struct makers : makers_for<float>, makers_for<bfloat16>, makers_for<float16> {};

/// Each is defined in a translation unit that is compiled for its level (cmake/dispatch_level.cpp), and not at all for
/// levels that the program does not have.
template <level Level>
const makers& makers_of() noexcept;
template <>
const makers& makers_of<level::x86_64>() noexcept;
template <>
const makers& makers_of<level::x86_64_v3>() noexcept;
template <>
const makers& makers_of<level::x86_64_v4>() noexcept;
template <>
const makers& makers_of<level::avx512_bf16>() noexcept;
template <>
const makers& makers_of<level::amx_bf16>() noexcept;
template <>
const makers& makers_of<level::armv8_a>() noexcept;

/// Those of a level that the program has and that runs here; `unsupported` otherwise.
status find(level wanted, const makers*& found) noexcept;

/// An object of the level that is wanted.
template <class Interface>
status make(level wanted, const typename Interface::options_type& options, const any_executor& where,
            std::unique_ptr<Interface>& object) {
  const makers* all = nullptr;
  if (const status answer = find(wanted, all); answer != status::ok) return answer;
  const maker<Interface>& fitting = *all;
  if (!fitting.make) return {status::unsupported, "the program's levels were built without rows of this type"};
  object = fitting.make(options, where);
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::dispatch::detail
