#pragma once
// The kernels of one level: the library's own classes behind the interface. Included by the translation unit that is
// compiled for the level, and by nothing else.

#include <cstddef>
#include <memory>
#include <span>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/attention.hpp"
#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/growing.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/dispatch/any_executor.hpp"
#include "cascada/dispatch/any_kv.hpp"
#include "cascada/dispatch/interface.hpp"

namespace cascada::inline CASCADA_ABI::dispatch::detail {

template <row_scalar Scalar, cpu_backend B>
class selector_of final : public any_selector<Scalar> {
 public:
  selector_of(const selection_options& options, const any_executor& where) : it_(options, B{where}) {}

  std::unique_ptr<any_selector<Scalar>> copy() const override { return std::make_unique<selector_of>(*this); }
  status                                select(matrix_view<const Scalar> x) override { return it_(x); }
  status                                literal(matrix_view<const Scalar> x) override { return it_.literal(x); }
  representatives                       kept() const noexcept override { return it_.kept(); }
  selection_report                      report() const noexcept override { return it_.report(); }

 private:
  cascada::selector<Scalar, B> it_;
};

template <row_scalar Scalar, cpu_backend B>
class cascade_of final : public any_cascade<Scalar> {
 public:
  cascade_of(const selection_options& options, const any_executor& where) : it_(options, B{where}) {}

  status           step(matrix_view<const Scalar> x) override { return it_.step(x); }
  status           inherit(const representatives& state) override { return it_.inherit(state); }
  void             reset() noexcept override { it_.reset(); }
  status           fork(any_cascade<Scalar>& to) const override { return it_.fork(static_cast<cascade_of&>(to).it_); }
  representatives  kept() const noexcept override { return it_.kept(); }
  selection_report report() const noexcept override { return it_.report(); }

 private:
  cascada::cascade<Scalar, B> it_;
};

template <row_scalar Scalar, cpu_backend B>
class growing_selection_of final : public any_growing_selection<Scalar> {
 public:
  growing_selection_of(const selection_options& options, const any_executor& where) : it_(options, B{where}) {}

  std::unique_ptr<any_growing_selection<Scalar>> copy() const override {
    return std::make_unique<growing_selection_of>(*this);
  }
  status extend(matrix_view<const Scalar> x, std::span<const index_t> below) override { return it_.extend(x, below); }
  status truncate(index_t tokens) noexcept override { return it_.truncate(tokens); }
  void   clear() noexcept override { it_.clear(); }
  status fork(any_growing_selection<Scalar>& to) const override {
    return it_.fork(static_cast<growing_selection_of&>(to).it_);
  }
  std::size_t      saved_bytes() const noexcept override { return it_.saved_bytes(); }
  status           save(std::span<std::byte> bytes) const noexcept override { return it_.save(bytes); }
  status           load(std::span<const std::byte> bytes) override { return it_.load(bytes); }
  representatives  kept() const noexcept override { return it_.kept(); }
  selection_report report() const noexcept override { return it_.report(); }
  std::size_t      bytes() const noexcept override { return it_.bytes(); }

 private:
  cascada::growing_selection<Scalar, B> it_;
};

template <row_scalar Scalar, cpu_backend B>
class attention_state_of final : public any_attention_state<Scalar> {
 public:
  attention_state_of(index_t tokens, const any_executor&) { it.reserve(tokens); }

  std::unique_ptr<any_attention_state<Scalar>> copy() const override {
    return std::make_unique<attention_state_of>(*this);
  }
  index_t     tokens() const noexcept override { return it.tokens(); }
  void        clear() noexcept override { it.clear(); }
  void        reserve(index_t tokens) noexcept override { it.reserve(tokens); }
  status      truncate(index_t tokens) noexcept override { return it.truncate(tokens); }
  std::size_t saved_bytes() const noexcept override { return it.saved_bytes(); }
  status      save(std::span<std::byte> bytes) const noexcept override { return it.save(bytes); }
  std::size_t bytes() const noexcept override { return it.bytes(); }

  cascada::attention_state<Scalar, B> it;
};

/// Keys and values are of the types `Stored`.
template <row_scalar Scalar, cpu_backend B, row_scalar... Stored>
class attention_of final : public any_attention<Scalar> {
 public:
  attention_of(const attention_options& options, const any_executor& where) : it_(options, B{where}) {}

  std::unique_ptr<any_attention<Scalar>> copy() const override { return std::make_unique<attention_of>(*this); }

  status attend(heads_view<const Scalar> q, const any_kv& kv, std::span<const representatives> selections,
                heads_view<Scalar> out, const attention_call& call) override {
    return with(kv, [&](const auto& rows) { return it_(q, rows, selections, out, call); });
  }
  status extend(any_attention_state<Scalar>& state, heads_view<const Scalar> q, const any_kv& kv,
                std::span<const representatives> selections, heads_view<Scalar> out,
                const attention_extension& call) override {
    return with(kv, [&](const auto& rows) { return it_.extend(own(state), q, rows, selections, out, call); });
  }
  status load(any_attention_state<Scalar>& state, const any_kv& kv, std::span<const std::byte> bytes) override {
    return with(kv, [&](const auto& rows) { return it_.load(own(state), rows, bytes); });
  }
  attention_report report() const noexcept override { return it_.report(); }

 private:
  static auto& own(any_attention_state<Scalar>& state) noexcept {
    return static_cast<attention_state_of<Scalar, B>&>(state).it;
  }

  /// Keys and values as what they are, where queries of Scalar can read them.
  template <class Use>
  static status with(const any_kv& kv, const Use& use) {
    status answer(status::unsupported, "the program's levels were built without keys and values of this type");
    (with_type<Stored>(kv, use, answer), ...);
    return answer;
  }
  template <row_scalar Type, class Use>
  static void with_type(const any_kv& kv, const Use& use, status& answer) {
    if constexpr (kv_view_for<typed_kv<Type>, Scalar>)
      if (kv.type == row_type_of<Type>) answer = use(typed_kv<Type>{kv});
  }

  cascada::attention<Scalar, B> it_;
};

template <class Interface, class Object>
std::unique_ptr<Interface> make_object(const typename Interface::options_type& options, const any_executor& where) {
  return std::make_unique<Object>(options, where);
}

template <class Object, class Interface>
constexpr void add(maker<Interface>& to) noexcept {
  to.make = make_object<Interface, Object>;
}

/// Of selection and attention for rows of `Scalar`, with keys and values of the types `Stored`.
template <cpu_backend B, row_scalar Scalar, row_scalar... Stored>
constexpr void add_rows(makers_for<Scalar>& to) noexcept {
  add<selector_of<Scalar, B>, any_selector<Scalar>>(to);
  add<cascade_of<Scalar, B>, any_cascade<Scalar>>(to);
  add<growing_selection_of<Scalar, B>, any_growing_selection<Scalar>>(to);
  add<attention_state_of<Scalar, B>, any_attention_state<Scalar>>(to);
  add<attention_of<Scalar, B, Stored...>, any_attention<Scalar>>(to);
}

/// All of a level, for rows of these types.
template <cpu_backend B, row_scalar... Rows>
constexpr makers all_makers() noexcept {
  makers all;
  (add_rows<B, Rows, Rows...>(all), ...);
  return all;
}

}  // namespace cascada::inline CASCADA_ABI::dispatch::detail
