#pragma once
// What selector and cascade have in common on gfx942: the options, device memory for one shape, and a step's launches.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cascada/hip/base/downloaded_selection.hpp"
#include "cascada/hip/base/memory.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/hip/select/begin.hpp"
#include "cascada/hip/select/check.hpp"
#include "cascada/hip/select/count.hpp"
#include "cascada/hip/select/cross_gram.hpp"
#include "cascada/hip/select/download.hpp"
#include "cascada/hip/select/graph.hpp"
#include "cascada/hip/select/launch_advance.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_counts.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/selection_report.hpp"
#include "cascada/set_stamp.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// Two layers of memory: a step copies the set so far to the second one, from which it inherits, and leaves its own in
/// the first. Where that lies, and all else that a launch is given, depends on T alone.
template <matrix_scalar Scalar, gfx942_stream B>
class selection_owner {
 public:
  selection_owner(const selection_options& options, B where) : options_(options), where_(where), memory_(where) {}

  selection_owner(selection_owner&& other) noexcept
      : options_(other.options_),
        where_(other.where_),
        memory_(std::move(other.memory_)),
        arrays_(std::exchange(other.arrays_, {})),
        there_(std::exchange(other.there_, false)),
        set_number_(std::move(other.set_number_)) {}
  selection_owner& operator=(selection_owner&& other) noexcept {
    options_    = other.options_;
    where_      = other.where_;
    memory_     = std::move(other.memory_);
    arrays_     = std::exchange(other.arrays_, {});
    there_      = std::exchange(other.there_, false);
    set_number_ = std::move(other.set_number_);
    return *this;
  }

  /// What the arguments alone tell.
  [[nodiscard]] status check(const matrix_view<const Scalar>& x) const noexcept { return select::check(x, options_); }

  /// Memory for T tokens; other T forgets the set, if there is enough.
  [[nodiscard]] status reserve(index_t T) {
    if (T < 0) return {status::invalid_shape, "tokens is negative"};
    if (T > detail::largest_size) return {status::too_large, "tokens is more than 2^31 - 4097"};
    if (T == arrays_.tokens && arrays_.now.count) return status::ok;
    const status answer = memory_.carve([&](carver& from) { cut(from, T); });
    if (answer != status::ok) return answer;
    arrays_.tokens = T;
    forget();
    return status::ok;
  }

  /// Puts one step on the stream, which `inherits` from the set that is there. If that fails, there is none any more.
  [[nodiscard]] status run(matrix_view<const Scalar> x, bool inherits) {
    forget();
    const selection_call<Scalar> call   = {.rows   = {x, options_.threshold, arrays_.norms},
                                           .memory = arrays_.of_call,
                                           .now    = arrays_.now,
                                           .before = inherits ? arrays_.before : layer_memory{},
                                           .assign = options_.assign,
                                           .limit  = detail::room(options_, x.rows)};
    const status                 answer = where_.clear(arrays_.of_call.counters, sizeof(selection_counters));
    if (answer != status::ok) return answer;
    launches launch(where_);
    launch(selection_begin<Scalar>{call});
    if (x.rows > 0) launch(selection_graph<Scalar>{call});
    if (inherits && arrays_.of_call.cross && x.rows > 0) launch(selection_cross_gram<Scalar>{call});
    launch_advance(launch, call);
    launch(selection_count<Scalar>{call});
    there_ = launch.answer() == status::ok;
    return launch.answer();
  }

  /// Waits for the stream and copies the set and the last step's report. The answer is the step's own; nothing is there
  /// where there is no set.
  [[nodiscard]] status download(downloaded_selection& to) const {
    if (!there_) return to = {}, status::ok;
    const layer_memory& layer  = arrays_.now;
    index_t             count  = -1;
    status              answer = where_.download(&count, layer.count, sizeof(count));
    if (answer != status::ok) return answer;
    answer = download_set(where_, layer, count < 0 ? 0 : count, count < 0 ? 0 : arrays_.tokens, to);
    return answer == status::ok ? download(to.report) : answer;
  }

  /// Waits for the stream. Nothing, if the last step failed.
  [[nodiscard]] selection_report report() const {
    selection_report of_step;
    return download(of_step) == status::ok ? of_step : selection_report{};
  }

  /// Waits for the stream and copies the last step's report, which stays as it was if the step failed.
  [[nodiscard]] status download(selection_report& to) const {
    if (!there_) return to = {}, status::ok;
    const bool   cross   = options_.validate == validation::cross_gram;
    status       of_step = status::ok;
    const status answer  = download_report(where_, arrays_.of_call.counters, arrays_.tokens, cross, to, of_step);
    return answer == status::ok ? of_step : answer;
  }

  /// Takes a state of the host, after which the report has its numbers alone. A set of as many tokens stays until all
  /// of it has come.
  [[nodiscard]] status upload(const representatives& state) {
    if (const status answer = reserve(state.tokens()); answer != status::ok) return answer;
    const layer_memory&      layer  = arrays_.before;
    const index_t            count  = state.count();
    const selection_counters none   = {.representatives = count, .former = -1};
    status                   answer = where_.upload(layer.indices, state.indices.data(), state.indices.size_bytes());
    if (answer == status::ok) answer = where_.upload(layer.rep, state.rep.data(), state.rep.size_bytes());
    if (answer == status::ok) answer = where_.upload(layer.counts, state.counts.data(), state.counts.size_bytes());
    if (answer == status::ok) answer = where_.upload(layer.count, &count, sizeof(count));
    if (answer == status::ok) answer = where_.upload(arrays_.of_call.counters, &none, sizeof(none));
    if (answer != status::ok) return answer;
    forget();
    answer = where_.copy(arrays_.now.indices, layer.indices, state.indices.size_bytes());
    if (answer == status::ok) answer = where_.copy(arrays_.now.rep, layer.rep, state.rep.size_bytes());
    if (answer == status::ok) answer = where_.copy(arrays_.now.counts, layer.counts, state.counts.size_bytes());
    if (answer == status::ok) answer = where_.copy(arrays_.now.count, layer.count, sizeof(count));
    there_ = answer == status::ok;
    return answer;
  }

  /// Copies all of `from` on the stream.
  [[nodiscard]] status copy(const selection_owner& from) {
    if (from.there_)
      if (const status answer = reserve(from.tokens()); answer != status::ok) return answer;
    forget();
    if (!from.there_) return status::ok;
    const std::size_t bytes  = memory_.bytes_of([&](carver& rest) { cut(rest, arrays_.tokens); });
    const status      answer = where_.copy(memory_.data(), from.memory_.data(), bytes);
    there_                   = answer == status::ok;
    return answer;
  }

  index_t tokens() const noexcept { return arrays_.tokens; }

  /// Whether there is a set.
  bool there() const noexcept { return there_; }

  /// View of the set, for its owner to give away; empty where there is none. Stale once the set is replaced.
  selection_layer view() const noexcept {
    if (!there_) return {};
    const layer_memory& layer = arrays_.now;
    return {layer.indices, layer.rep, layer.counts, layer.count, arrays_.tokens, set_number_.stamp()};
  }

  /// There is no set, or another one is on its way: views given away are stale.
  void forget() noexcept {
    set_number_.renew();
    there_ = false;
  }

 private:
  /// What lies in the memory; nothing, at first.
  struct arrays {
    index_t          tokens = 0;
    layer_memory     now, before;
    selection_memory of_call = {};
    float*           norms   = nullptr;
  };

  void cut(carver& from, index_t T) noexcept {
    const index_t stretches = (T + stretch_tokens - 1) / stretch_tokens;
    for (layer_memory* const layer : {&arrays_.now, &arrays_.before}) {
      from.cut(layer->indices, T), from.cut(layer->rep, T), from.cut(layer->counts, T);
      from.cut(layer->count, 1);
    }
    from.cut(arrays_.norms, T);
    from.cut(arrays_.of_call.counters, 1), from.cut(arrays_.of_call.progress, T), from.cut(arrays_.of_call.prefix, T);
    from.cut(arrays_.of_call.graph, std::int64_t{T} * neighbour_words), from.cut(arrays_.of_call.known, stretches + 1);
    if (options_.validate == validation::cross_gram) from.cut(arrays_.of_call.cross, T * cross_words(T));
  }

  selection_options options_;
  B                 where_;
  device_memory<B>  memory_;
  arrays            arrays_;
  bool              there_ = false;

  detail::set_number<B> set_number_;
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
