#pragma once
// What selector and cascade have in common: the options, the set that each call replaces, and memory for the calls.

#include <cstdint>
#include <utility>

#include "cascada/cpu/select/call.hpp"
#include "cascada/set_stamp.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// Moved from, it is as new, with its options.
template <cpu_backend B>
struct selection_owner {
  selection_options                options;
  B                                where;
  call_memory<selection_memory<B>> memory = {};
  selection_state<B>               kept   = {};
  detail::set_number<B>            number = {};  // of `kept`
  selection_report                 report = {};
  bool                             chosen = false;  // whether `kept` is a set, be it one of no tokens

  selection_owner(const selection_options& asked, const B& backend) : options(asked), where(backend) {}

  selection_owner(const selection_owner&) = default;
  selection_owner(selection_owner&& other) noexcept
      : options(other.options),
        where(other.where),
        memory(std::move(other.memory)),
        kept(std::move(other.kept)),
        number(std::move(other.number)),
        report(std::exchange(other.report, {})),
        chosen(std::exchange(other.chosen, false)) {}
  selection_owner& operator=(selection_owner other) noexcept {
    options = other.options, where = other.where;
    memory = std::move(other.memory), kept = std::move(other.kept), number = std::move(other.number);
    report = other.report;
    chosen = other.chosen;
    return *this;
  }

  /// What `select` answers, given a call for x: from `kept` if it `inherits`, in paper mode if `cross`. The set that it
  /// makes takes the place of `kept`; if there is none, all stays as it was, if maybe in other memory.
  template <row_scalar Scalar, class Select>
  status replace(matrix_view<const Scalar> x, bool inherits, bool cross, const Select& select) {
    if (x.rows == 0) x = {.cols = 1, .stride = 1};  // whatever they were
    const index_t limit = detail::room(options, x.rows);
    memory.reserve(x.rows, x.cols, limit);
    make_room(x.rows, limit);
    const float_environment<B> usual;
    selection_call<Scalar, B>  call(x, inherits ? kept.rep.data() : nullptr, limit, options, where, memory);
    if (const status answer = select(call); answer != status::ok) return answer;
    report = call.report(cross, memory.position.data(), memory.additions.data());
    if (inherits) detail::count_step(kept.count, cross, report);
    call.count_tokens(memory.position.data());
    adopt_now();
    return status::ok;
  }

  /// The set becomes a copy of `state`, which may be a view of it.
  void copy(const representatives& state) {
    memory.now.assign(state);
    make_room(state.tokens(), state.tokens());
    adopt_now();
    report = {.tokens = kept.tokens, .representatives = kept.count};
  }

  /// Forgets the set; memory is kept.
  void reset() noexcept {
    kept.tokens = kept.count = 0;
    number.renew();
    report = {};
    chosen = false;
  }

 private:
  /// Memory that the next call works in, and then allocates nothing.
  void make_room(index_t T, index_t limit) {
    if (kept.has_room(T, limit)) return;
    kept.grow(T, limit);
    number.renew();
  }

  void adopt_now() noexcept {
    std::swap(memory.now, kept);
    number.renew();
    chosen = true;
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::select
