#pragma once
// A batch of sequences that grow, in all layers of a model.

#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "tensors.hpp"

namespace torch_cascada {

enum class features { residual, keys };

/// How to attend. Dense: with options.keys == all, and no selection.
struct settings {
  features                   rows = features::residual;
  cascada::selection_options selection;
  cascada::attention_options attention = {.keys = cascada::key_set::all};

  bool selects() const { return cascada::needs_selections(attention); }
};

/// Attention with its workspace, for each set of options that layers ask for. One call at a time.
template <class Scalar>
class workshop {
 public:
  template <class Function>
  static auto with(const cascada::attention_options& options, Function&& function) {
    static std::mutex                                                                            one_at_a_time;
    static std::list<std::pair<cascada::attention_options, cascada::attention<Scalar, backend>>> made;
    const std::lock_guard                                                                        lock(one_at_a_time);
    for (auto& [known, attend] : made)
      if (known == options) return function(attend);
    made.emplace_back(options, cascada::attention<Scalar, backend>(options));
    return function(made.back().second);
  }
};

/// Every query to every key that is no later.
template <class Scalar>
at::Tensor attend_densely(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const std::vector<std::int64_t>& padding, const layer_terms& terms) {
  const batch_rows<Scalar> rows{q, k, v, padding};
  rows.check();
  at::Tensor out = rows.results();
  workshop<Scalar>::with(terms.applied_to({.keys = cascada::key_set::all}), [&](auto& attend) {
    for (std::int64_t b = 0; b < rows.batch(); ++b)
      require_ok(attend(rows.queries(b), rows.keys_and_values(b), rows.results_of(out, b)));
  });
  return out;
}

/// Sums over calls: what was read, of what dense attention reads, and what closed leaves had of the softmax.
struct costs {
  std::int64_t read = 0, dense = 0, far_rows = 0;
  double       mass = 0;

  void add(const cascada::attention_report& report) {
    read += report.near_keys + report.leaves + report.computed, dense += report.dense_keys;
    far_rows += report.far_rows, mass += report.mass;
  }
};

/// The states of a batch, layer by layer. Layers are called in their order, call after call with the next tokens. A
/// copy is independent: a prompt that several go on with.
template <class Scalar>
class sequences {
 public:
  explicit sequences(const settings& how) : settings_(how) {}

  /// Attends from the next tokens, q, to all so far. residual: the rows [batch, new tokens, width] that enter the
  /// layer, looked at where they are what is selected on.
  at::Tensor attend(std::int64_t index, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const std::optional<at::Tensor>& residual, const std::vector<std::int64_t>& padding,
                    const layer_terms& terms) {
    const batch_rows<Scalar> rows{q, k, v, padding};
    rows.check();
    auto&       batch = layers_[index];
    const auto* below = layer_below(index);
    if (batch.empty()) batch.resize(static_cast<std::size_t>(rows.batch()), sequence(settings_.selection));
    require(static_cast<std::int64_t>(batch.size()) == rows.batch(), "the batch is not of as many sequences as before");
    for (std::int64_t b = 0; b < rows.batch(); ++b) batch[static_cast<std::size_t>(b)].require_goes_on(rows, b);

    at::Tensor out = rows.results();
    if (settings_.rows == features::residual) require_residual(rows, residual);
    for (std::int64_t b = 0; b < rows.batch(); ++b) {
      if (settings_.rows == features::residual)
        batch[static_cast<std::size_t>(b)].select(residual->select(0, b).slice(0, rows.first(b)),
                                                  settings_.attention.chunk,
                                                  below ? &(*below)[static_cast<std::size_t>(b)] : nullptr);
      else
        batch[static_cast<std::size_t>(b)].select_keys(k.select(0, b).slice(1, rows.begin(b)), settings_);
    }
    workshop<Scalar>::with(terms.applied_to(settings_.attention), [&](auto& attend) {
      for (std::int64_t b = 0; b < rows.batch(); ++b) {
        auto&                                       own  = batch[static_cast<std::size_t>(b)];
        const std::vector<cascada::representatives> kept = own.kept();
        require_ok(attend.extend(own.state, rows.queries(b), rows.keys_and_values(b), kept, rows.results_of(out, b)));
        own.remember_last_key(rows, b);
        costs_.add(attend.report());
      }
    });
    return out;
  }

  /// Forgets the last tokens of every sequence.
  void drop_last(std::int64_t tokens) {
    for (auto& [index, batch] : layers_)
      for (auto& own : batch) own.drop_last(to_index(tokens));
  }

  /// Tokens of the longest sequence.
  std::int64_t tokens() const {
    std::int64_t most = 0;
    if (!layers_.empty())
      for (const auto& own : layers_.begin()->second) most = std::max<std::int64_t>(most, own.state.tokens());
    return most;
  }

  /// Memory beside keys and values.
  std::int64_t bytes() const {
    std::size_t all = 0;
    for (const auto& [index, batch] : layers_)
      for (const auto& own : batch) {
        all += own.state.bytes() + own.waiting.size() * sizeof(float);
        for (const auto& selection : own.selections) all += selection.bytes();
      }
    return static_cast<std::int64_t>(all);
  }

  const costs& sums() const { return costs_; }

 private:
  using growing = cascada::growing_selection<float, backend>;

  /// One sequence in one layer.
  struct sequence {
    explicit sequence(const cascada::selection_options& options) : selections(1, growing(options)) {}

    std::vector<growing>                      selections;  // one, or one for each KV head
    std::vector<float>                        waiting;     // rows of the residual stream, until their chunk is whole
    cascada::attention_state<Scalar, backend> state;
    std::vector<Scalar>                       last_key;  // of all KV heads, to know the cache by

    index_t selected() const { return selections.front().kept().tokens(); }

    std::vector<cascada::representatives> kept() const {
      std::vector<cascada::representatives> all;
      for (const auto& selection : selections) all.push_back(selection.kept());
      return all;
    }

    /// Leaves are of the keys that earlier calls brought: the cache has to be the one that they left.
    void require_goes_on(const batch_rows<Scalar>& rows, std::int64_t b) const {
      require(state.tokens() == rows.before(b), "the cache holds " + std::to_string(rows.before(b)) +
                                                    " tokens of a sequence, of which " +
                                                    std::to_string(state.tokens()) + " came by here");
      if (last_key.empty()) return;  // nothing came yet, or the cache was cropped
      const auto keys = rows.keys_and_values(b).keys;
      bool       same = last_key.size() == static_cast<std::size_t>(keys.heads) * static_cast<std::size_t>(keys.dim);
      for (index_t h = 0; h < keys.heads && same; ++h)
        same = std::memcmp(keys.row(state.tokens() - 1, h), last_key.data() + std::int64_t{h} * keys.dim,
                           static_cast<std::size_t>(keys.dim) * sizeof(Scalar)) == 0;
      require(same, "the cache is not what the last call left: beam search and edited caches are not supported");
    }

    void remember_last_key(const batch_rows<Scalar>& rows, std::int64_t b) {
      const auto keys = rows.keys_and_values(b).keys;
      last_key.clear();
      for (index_t h = 0; h < keys.heads; ++h) {
        const Scalar* const row = keys.row(state.tokens() - 1, h);
        last_key.insert(last_key.end(), row, row + keys.dim);
      }
    }

    /// Whole chunks at a time: attention asks for no more, and one token costs as much as some dozens.
    static index_t until(index_t tokens, index_t chunk) { return tokens - tokens % chunk; }

    void select(const at::Tensor& residual, index_t chunk, const sequence* below) {
      const at::Tensor x     = residual.to(at::kFloat).contiguous();
      const auto       width = x.size(1);
      waiting.insert(waiting.end(), x.data_ptr<float>(), x.data_ptr<float>() + x.numel());
      const auto    rows  = to_index(static_cast<std::int64_t>(waiting.size()) / width);
      const index_t count = until(selected() + rows, chunk) - selected();
      if (count <= 0) return;
      std::span<const index_t> inherited;
      if (below && below->selected() >= selected() + count)
        inherited = below->selections.front().kept().rep.subspan(static_cast<std::size_t>(selected()),
                                                                 static_cast<std::size_t>(count));
      require_ok(selections.front().extend({waiting.data(), count, to_index(width), width}, inherited));
      waiting.erase(waiting.begin(), waiting.begin() + count * width);
    }

    void select_keys(const at::Tensor& keys, const settings& how) {  // [kv_heads, tokens, head_dim]
      const auto heads = static_cast<std::size_t>(keys.size(0));
      if (selections.size() != heads) selections.resize(heads, growing(how.selection));
      const index_t count = until(to_index(keys.size(1)), how.attention.chunk) - selected();
      if (count <= 0) return;
      const at::Tensor x = keys.slice(1, selected(), selected() + count).to(at::kFloat).contiguous();
      for (std::size_t h = 0; h < heads; ++h) {
        const at::Tensor own = x[static_cast<std::int64_t>(h)];
        require_ok(selections[h].extend({own.data_ptr<float>(), count, to_index(own.size(1)), own.size(1)}));
      }
    }

    void drop_last(index_t tokens) {
      const index_t end = state.tokens() - tokens, rows = state.tokens() - selected();
      require(end >= 0, "the cache was cropped to less than a sequence's padding");
      require_ok(state.truncate(end));
      if (rows > 0)
        waiting.resize(waiting.size() / static_cast<std::size_t>(rows) *
                       static_cast<std::size_t>(std::max(0, end - selected())));
      for (auto& selection : selections)
        if (selection.kept().tokens() > end) require_ok(selection.truncate(end));
      last_key.clear();
    }
  };

  using batch_of_layer = std::vector<sequence>;

  static void require_residual(const batch_rows<Scalar>& rows, const std::optional<at::Tensor>& residual) {
    require(residual.has_value() && residual->dim() == 3 && residual->size(0) == rows.batch() &&
                residual->size(1) == rows.q.size(2),
            "residual is not [batch, tokens of q, width]");
  }

  const batch_of_layer* layer_below(std::int64_t index) const {
    const auto place = layers_.find(index);
    return place == layers_.begin() ? nullptr : &std::prev(place)->second;
  }

  settings                               settings_;
  std::map<std::int64_t, batch_of_layer> layers_;
  costs                                  costs_;
};

}  // namespace torch_cascada
