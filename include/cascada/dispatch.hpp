#pragma once
// Opt-in: one program for many CPUs. The same classes as those of cascada.hpp, whose kernels are compiled for several
// levels of instructions; the best level that the CPU and the process have is chosen when the program runs.
//
// Another door, beside cascada.hpp: it needs neither Eigen nor any kernel. The kernels are in a library that CMake's
// cascada_add_dispatch() makes (pages/backends.md). Sets are the same, bit for bit, on every level; rows of attention
// are, on each level, those of attention<..> compiled with its flags.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "cascada/attention.hpp"
#include "cascada/cascade.hpp"
#include "cascada/config.hpp"
#include "cascada/dispatch/any_executor.hpp"
#include "cascada/dispatch/any_kv.hpp"
#include "cascada/dispatch/interface.hpp"
#include "cascada/dispatch/levels.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/presets.hpp"
#include "cascada/select.hpp"

namespace cascada::inline CASCADA_ABI::dispatch {

/// Which kernels an object has, and where they run:
///
///   attention<float> attend(options);                                        the best level, and the shared pool
///   attention<float> attend(options, {.instructions = level::x86_64_v3});    another level, to compare or to test
///   attention<float> attend(options, {.executor = threads_of_engine});       any executor
///
/// A level that the program does not have, or that does not run here, is refused by each call (`unsupported`).
struct cpu {
  level        instructions = best();
  any_executor executor     = shared_pool();
};

namespace detail {

/// An object of a level, made by the first call that needs it; moving it away leaves a new one with the same options.
template <class Interface>
class made_when_needed {
 public:
  using options = typename Interface::options_type;

  made_when_needed(const options& of, const cpu& where) : options_(of), where_(where) {}

  made_when_needed(const made_when_needed& other)
      : options_(other.options_), where_(other.where_), object_(other.object_ ? other.object_->copy() : nullptr) {}
  made_when_needed(made_when_needed&& other) noexcept : made_when_needed(other.options_, other.where_) {
    object_ = std::move(other.object_);
  }
  made_when_needed& operator=(made_when_needed other) noexcept {
    options_ = other.options_, where_ = other.where_, object_ = std::move(other.object_);
    return *this;
  }

  /// The object, or null as long as no call needed it.
  [[nodiscard]] Interface*       get() noexcept { return object_.get(); }
  [[nodiscard]] const Interface* get() const noexcept { return object_.get(); }

  [[nodiscard]] level    instructions() const noexcept { return where_.instructions; }
  [[nodiscard]] options& given() noexcept { return options_; }

  /// What it says of itself; nothing, as long as no call needed it.
  template <class Say>
  auto read(const Say& say) const noexcept {
    return object_ ? say(std::as_const(*object_)) : decltype(say(std::as_const(*object_))){};
  }

  /// What a call of the object answers; a refusal if there are no kernels for it.
  template <class Call>
  status operator()(const Call& call) {
    if (!object_)
      if (const status answer = make(where_.instructions, options_, where_.executor, object_); answer != status::ok)
        return answer;
    return call(*object_);
  }

  /// The same of a copy that stays as it is: what a new object answers, as long as no call needed one.
  template <class Call>
  status ask(const Call& call) const {
    if (object_) return call(std::as_const(*object_));
    made_when_needed fresh(options_, where_);
    return fresh(call);
  }

  /// Of what can be saved: the bytes that it takes; 0 if there are no kernels for it.
  [[nodiscard]] std::size_t saved_bytes() const {
    std::size_t count = 0;
    const auto  take  = [&](const auto& it) {
      count = it.saved_bytes();
      return status(status::ok);
    };
    return ask(take) == status::ok ? count : 0;
  }

 private:
  options                    options_;
  cpu                        where_;
  std::unique_ptr<Interface> object_;
};

}  // namespace detail

/// As cascada::selector, also in what threads may do.
template <row_scalar Scalar>
class selector {
 public:
  explicit selector(selection_options options = {}, const cpu& where = {}) : on_level_(options, where) {}

  [[nodiscard]] status operator()(matrix_view<const Scalar> x) {
    return on_level_([&](auto& it) { return it.select(x); });
  }
  [[nodiscard]] status literal(matrix_view<const Scalar> x) {
    return on_level_([&](auto& it) { return it.literal(x); });
  }
  [[nodiscard]] representatives kept() const noexcept {
    return on_level_.read([](const auto& it) { return it.kept(); });
  }
  [[nodiscard]] selection_report report() const noexcept {
    return on_level_.read([](const auto& it) { return it.report(); });
  }

 private:
  detail::made_when_needed<detail::any_selector<Scalar>> on_level_;
};

/// As cascada::cascade, also in what threads may do.
template <row_scalar Scalar>
class cascade {
 public:
  explicit cascade(selection_options options = {}, const cpu& where = {}) : on_level_(options, where) {}

  cascade(cascade&&) noexcept            = default;
  cascade& operator=(cascade&&) noexcept = default;

  [[nodiscard]] status step(matrix_view<const Scalar> x) {
    return on_level_([&](auto& it) { return it.step(x); });
  }
  [[nodiscard]] status inherit(const representatives& state) {
    return on_level_([&](auto& it) { return it.inherit(state); });
  }
  void reset() noexcept {
    if (auto* it = on_level_.get()) it->reset();
  }
  [[nodiscard]] status fork(cascade& to) const {
    if (on_level_.instructions() != to.on_level_.instructions())
      return {status::unsupported, "to is a cascade of another level"};
    const auto* it = on_level_.get();
    if (!it) return to.reset(), status::ok;
    return to.on_level_([&](auto& of_other) { return it->fork(of_other); });
  }

  [[nodiscard]] representatives kept() const noexcept {
    return on_level_.read([](const auto& it) { return it.kept(); });
  }
  [[nodiscard]] selection_report report() const noexcept {
    return on_level_.read([](const auto& it) { return it.report(); });
  }

 private:
  detail::made_when_needed<detail::any_cascade<Scalar>> on_level_;
};

/// As cascada::growing_selection, also in what threads may do. Saved selections may be loaded on any level.
template <row_scalar Scalar>
class growing_selection {
 public:
  explicit growing_selection(selection_options options = {}, const cpu& where = {}) : on_level_(options, where) {}

  [[nodiscard]] status extend(matrix_view<const Scalar> x, std::span<const index_t> below = {}) {
    return on_level_([&](auto& it) { return it.extend(x, below); });
  }
  [[nodiscard]] status truncate(index_t tokens) {
    return on_level_([&](auto& it) { return it.truncate(tokens); });
  }
  void clear() noexcept {
    if (auto* it = on_level_.get()) it->clear();
  }
  [[nodiscard]] status fork(growing_selection& to) const {
    if (on_level_.instructions() != to.on_level_.instructions())
      return {status::unsupported, "to is a selection of another level"};
    const auto* it = on_level_.get();
    if (!it) return to.clear(), status::ok;
    return to.on_level_([&](auto& of_other) { return it->fork(of_other); });
  }
  [[nodiscard]] std::size_t saved_bytes() const { return on_level_.saved_bytes(); }
  [[nodiscard]] status      save(std::span<std::byte> bytes) const {
    return on_level_.ask([&](const auto& it) { return it.save(bytes); });
  }
  [[nodiscard]] status load(std::span<const std::byte> bytes) {
    return on_level_([&](auto& it) { return it.load(bytes); });
  }
  [[nodiscard]] representatives kept() const noexcept {
    return on_level_.read([](const auto& it) { return it.kept(); });
  }
  [[nodiscard]] selection_report report() const noexcept {
    return on_level_.read([](const auto& it) { return it.report(); });
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return on_level_.read([](const auto& it) { return it.bytes(); });
  }

 private:
  detail::made_when_needed<detail::any_growing_selection<Scalar>> on_level_;
};

/// As cascada::attention_state, also in what threads may do. It takes the level of the attention that goes on with it;
/// as long as it has tokens, attention of another level refuses it (`unsupported`). What was saved may be loaded on any
/// level.
template <row_scalar Scalar>
class attention_state {
 public:
  attention_state() : on_level_(0, {best(), {}}) {}

  [[nodiscard]] index_t tokens() const noexcept {
    return on_level_.read([](const auto& it) { return it.tokens(); });
  }
  void clear() noexcept {
    if (auto* it = on_level_.get()) it->clear();
  }
  void reserve(index_t tokens) noexcept {
    on_level_.given() = std::max(on_level_.given(), tokens);
    if (auto* it = on_level_.get()) it->reserve(tokens);
  }
  [[nodiscard]] status truncate(index_t tokens) {
    return on_level_([&](auto& it) { return it.truncate(tokens); });
  }
  [[nodiscard]] status fork(attention_state& to) const {
    to = *this;
    return status::ok;
  }
  [[nodiscard]] std::size_t saved_bytes() const { return on_level_.saved_bytes(); }
  [[nodiscard]] status      save(std::span<std::byte> bytes) const {
    return on_level_.ask([&](const auto& it) { return it.save(bytes); });
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return on_level_.read([](const auto& it) { return it.bytes(); });
  }

 private:
  template <row_scalar>
  friend class attention;

  /// What a call of attention answers with the state on its level.
  template <class Call>
  status lend(level to, const Call& call) {
    if (to != on_level_.instructions()) {
      if (tokens() > 0) return {status::unsupported, "state belongs to attention of another level"};
      on_level_ = {on_level_.given(), {to, {}}};
    }
    return on_level_(call);
  }

  detail::made_when_needed<detail::any_attention_state<Scalar>> on_level_;
};

/// As cascada::attention, also in what threads may do, for keys and values of element types in any layout of
/// kv_view.hpp, and results of the queries' type. All layouts of a type share one kernel.
template <row_scalar Scalar>
class attention {
 public:
  explicit attention(attention_options options = {}, const cpu& where = {}) : on_level_(options, where) {}

  template <detail::kv_in_layout<Scalar> KV>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv, std::span<const representatives> selections,
                                  heads_view<Scalar> out, const attention_call& call = {}) {
    return on_level_([&](auto& it) { return it.attend(q, detail::any_layout(kv), selections, out, call); });
  }

  template <detail::kv_in_layout<Scalar> KV, std::same_as<representatives> One>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv, const One& selection,
                                  heads_view<Scalar> out, const attention_call& call = {}) {
    return (*this)(q, kv, std::span<const representatives>(&selection, 1), out, call);
  }

  template <detail::kv_in_layout<Scalar> KV>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv, heads_view<Scalar> out,
                                  const attention_call& call = {}) {
    return (*this)(q, kv, std::span<const representatives>(), out, call);
  }

  template <detail::kv_in_layout<Scalar> KV>
  [[nodiscard]] status extend(attention_state<Scalar>& state, heads_view<const Scalar> q, const KV& kv,
                              std::span<const representatives> selections, heads_view<Scalar> out,
                              const attention_extension& call = {}) {
    return on_level_([&](auto& it) {
      return state.lend(on_level_.instructions(), [&](auto& of_state) {
        return it.extend(of_state, q, detail::any_layout(kv), selections, out, call);
      });
    });
  }

  template <detail::kv_in_layout<Scalar> KV, std::same_as<representatives> One>
  [[nodiscard]] status extend(attention_state<Scalar>& state, heads_view<const Scalar> q, const KV& kv,
                              const One& selection, heads_view<Scalar> out, const attention_extension& call = {}) {
    return extend(state, q, kv, std::span<const representatives>(&selection, 1), out, call);
  }

  template <detail::kv_in_layout<Scalar> KV>
  [[nodiscard]] status extend(attention_state<Scalar>& state, heads_view<const Scalar> q, const KV& kv,
                              heads_view<Scalar> out, const attention_extension& call = {}) {
    return extend(state, q, kv, std::span<const representatives>(), out, call);
  }

  template <detail::kv_in_layout<Scalar> KV>
  [[nodiscard]] status load(attention_state<Scalar>& state, const KV& kv, std::span<const std::byte> bytes) {
    return on_level_([&](auto& it) {
      return state.lend(on_level_.instructions(),
                        [&](auto& of_state) { return it.load(of_state, detail::any_layout(kv), bytes); });
    });
  }

  [[nodiscard]] attention_report report() const noexcept {
    return on_level_.read([](const auto& it) { return it.report(); });
  }

 private:
  detail::made_when_needed<detail::any_attention<Scalar>> on_level_;
};

static_assert(token_selector<selector<float>, float> && token_cascade<cascade<float>, float>);
static_assert(growing_token_selector<growing_selection<float>, float, std::span<const index_t>> &&
              saved_selection<growing_selection<float>>);
static_assert(growing_token_attention<attention<float>, attention_state<float>, float, representatives>);

}  // namespace cascada::inline CASCADA_ABI::dispatch
