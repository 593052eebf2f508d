#pragma once
// Attention as the definitions read: for every query, list what it attends to, and take the softmax.
//
// What a query attends to is a token, or a group of tokens: its mean key and mean value, counted as often as it has
// members. Weights exist as logarithms until the last step, so that logits may lie hundreds of nats apart.
//
// With Real = double this is the oracle of the kernels, with which it shares no code; with Real = float it is the plain
// implementation that their error is measured against.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

#include "cascada/attention_options.hpp"
#include "cascada/config.hpp"
#include "cascada/reference/selection.hpp"
#include "cascada/scalar.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::reference {

/// One sequence: q [tokens, heads, key_dim], k [tokens, kv_heads, key_dim], v [tokens, kv_heads, value_dim].
template <class Real>
struct attention_input {
  index_t           tokens = 0, heads = 1, kv_heads = 1, key_dim = 1, value_dim = 1;
  std::vector<Real> q, k, v;
  std::vector<Real> sink_logits = {}, slopes = {};  // [heads], or none

  index_t     group() const { return heads / kv_heads; }
  const Real* query(index_t t, index_t h) const { return q.data() + (std::ptrdiff_t{t} * heads + h) * key_dim; }
  const Real* key(index_t t, index_t g) const { return k.data() + (std::ptrdiff_t{t} * kv_heads + g) * key_dim; }
  const Real* value(index_t t, index_t g) const { return v.data() + (std::ptrdiff_t{t} * kv_heads + g) * value_dim; }
};

/// The representative of every token.
using assignment_of_tokens = std::vector<index_t>;

/// One thing to attend to: a token, or a group of tokens.
template <class Real>
struct source {
  const Real*              key;
  const Real*              value;
  Real                     count    = 1;
  const std::vector<Real>* variance = nullptr;  // of the keys, one for each group of dimensions
  index_t                  position = 0;        // of a token
};

/// Tokens that are attended to together: a leaf, or a whole cluster.
template <class Real>
struct group_of_tokens {
  std::vector<index_t> members;  // ascending
  std::vector<Real>    key, value, variance;

  Real         count() const { return static_cast<Real>(members.size()); }
  source<Real> summary() const { return {key.data(), value.data(), count(), &variance}; }
};

/// What products multiply besides q, k and v, which are means and weights: as it is. A caller may put in its place what
/// some arithmetic makes of it.
struct as_it_is {
  template <class Real>
  Real operator()(Real x) const {
    return x;
  }
};

/// Of rows [dim].
template <class Real, class Factor = as_it_is>
std::vector<Real> mean(const std::vector<const Real*>& rows, index_t dim) {
  std::vector<Real> sum(static_cast<std::size_t>(dim), Real(0));
  for (const Real* row : rows)
    for (index_t c = 0; c < dim; ++c) sum[static_cast<std::size_t>(c)] += row[c];
  for (Real& x : sum) x = Factor()(x / static_cast<Real>(rows.size()));
  return sum;
}

/// The mean variance of keys over the dimensions of each of `groups` groups.
template <class Real>
std::vector<Real> variances(const std::vector<const Real*>& keys, index_t dim, index_t groups) {
  const auto        exact = mean<Real>(keys, dim);
  std::vector<Real> all;
  for (index_t g = 0; g < groups; ++g) {
    const auto begin = static_cast<index_t>(std::int64_t{g} * dim / groups);
    const auto end   = static_cast<index_t>((std::int64_t{g} + 1) * dim / groups);
    Real       sum   = 0;
    for (const Real* key : keys)
      for (index_t c = begin; c < end; ++c) {
        const Real distance = key[c] - exact[static_cast<std::size_t>(c)];
        sum += distance * distance;
      }
    all.push_back(end > begin ? sum / static_cast<Real>(keys.size()) / static_cast<Real>(end - begin) : Real(0));
  }
  return all;
}

/// The mean as bfloat16, of finite rows finite. Sums are float, whatever Real is, so that one digit more does not round
/// to the other side; they are made again where they overflow.
template <class Real>
std::vector<Real> rounded_mean(const std::vector<const Real*>& rows, index_t dim) {
  const auto        most  = static_cast<double>(to_float(bfloat16{0x7f7f}));
  const auto        count = static_cast<float>(rows.size());
  std::vector<Real> all;
  for (index_t c = 0; c < dim; ++c) {
    float  sum   = 0;
    double exact = 0;
    for (const Real* row : rows) {
      sum += static_cast<float>(row[c]);
      exact += static_cast<double>(row[c]);
    }
    const double x       = std::isfinite(sum) ? static_cast<double>(sum / count) : exact / static_cast<double>(count);
    const auto   nearest = from_float<bfloat16>(static_cast<float>(std::isfinite(x) ? std::clamp(x, -most, most) : x));
    all.push_back(static_cast<Real>(to_float(nearest)));
  }
  return all;
}

/// Fills in what stands for the members.
template <class Real, class Factor = as_it_is>
void summarise(group_of_tokens<Real>& group, const attention_input<Real>& in, index_t g, index_t moments,
               summary_type kept = summary_type::as_multiplied) {
  std::vector<const Real*> keys, values;
  for (const index_t i : group.members) keys.push_back(in.key(i, g)), values.push_back(in.value(i, g));
  group.key      = mean<Real, Factor>(keys, in.key_dim);
  group.value    = mean<Real, Factor>(values, in.value_dim);
  group.variance = variances(keys, in.key_dim, moments);
  if (kept == summary_type::as_multiplied) return;
  group.key   = rounded_mean(keys, in.key_dim);
  group.value = rounded_mean(values, in.value_dim);
}

/// The clusters of tokens [0, end), by ascending representative.
template <class Real, class Factor = as_it_is>
std::vector<group_of_tokens<Real>> clusters_before(index_t end, const attention_input<Real>& in, index_t g,
                                                   const assignment_of_tokens& rep) {
  std::vector<group_of_tokens<Real>> all;
  for (index_t j = 0; j < end; ++j) {
    if (rep[static_cast<std::size_t>(j)] != j) continue;
    all.emplace_back();
    for (index_t i = j; i < end; ++i)
      if (rep[static_cast<std::size_t>(i)] == j) all.back().members.push_back(i);
    summarise<Real, Factor>(all.back(), in, g, 0);
  }
  return all;
}

/// The chain of every token from `sinks` on, named by its first token.
template <class Real>
assignment_of_tokens chains(index_t sinks, const attention_input<Real>& in, index_t g, const assignment_of_tokens& rep,
                            const attention_options& options) {
  std::vector<float> keys;  // whatever Real is, verdicts are on the rows as they are
  for (index_t t = 0; t < in.tokens; ++t)
    for (index_t c = 0; c < in.key_dim; ++c) keys.push_back(static_cast<float>(in.key(t, g)[c]));
  const matrix_view<const float> rows = {keys.data(), in.tokens, in.key_dim, in.key_dim};
  assignment_of_tokens           chain(static_cast<std::size_t>(in.tokens), -1);
  for (index_t t = sinks; t < in.tokens; ++t) {
    std::optional<index_t> joined;
    for (index_t i = sinks; i < t; ++i) {
      const bool first = chain[static_cast<std::size_t>(i)] == i;
      if (!first || rep[static_cast<std::size_t>(i)] != rep[static_cast<std::size_t>(t)]) continue;
      if (options.leaves == leaf_formation::by_order)
        joined = i;
      else if (covered(rows, options.leaf_threshold, t, i) && (!joined || nearer(rows, t, i, *joined)))
        joined = i;
    }
    chain[static_cast<std::size_t>(t)] = joined.value_or(t);
  }
  return chain;
}

/// The leaves of tokens [sinks, end), by ascending first token: each `options.leaf` successive members of a chain.
template <class Real, class Factor = as_it_is>
std::vector<group_of_tokens<Real>> leaves_before(index_t end, index_t sinks, const attention_input<Real>& in, index_t g,
                                                 const assignment_of_tokens& chain, const attention_options& options) {
  std::vector<group_of_tokens<Real>> all;
  for (index_t t = sinks; t < end; ++t) {
    group_of_tokens<Real>* growing = nullptr;
    for (auto& leaf : all) {
      const auto first = static_cast<std::size_t>(leaf.members.front());
      if (chain[first] == chain[static_cast<std::size_t>(t)]) growing = &leaf;  // the last leaf of its chain
    }
    if (!growing || static_cast<index_t>(growing->members.size()) == options.leaf) growing = &all.emplace_back();
    growing->members.push_back(t);
  }
  for (auto& leaf : all) summarise<Real, Factor>(leaf, in, g, options.moments.value_or(0), options.summaries);
  return all;
}

/// Where entry i of row t lies, n entries a row.
inline std::size_t entry(index_t t, index_t n, index_t i) {
  return static_cast<std::size_t>(t) * static_cast<std::size_t>(n) + static_cast<std::size_t>(i);
}

/// scale q . k + log(count) + min(4, correction); with a cap, cap tanh(scale q . k / cap) and so on, where the
/// correction shrinks by the square of the cap's derivative.
template <class Real>
Real logit(const Real* query, const source<Real>& from, Real scale, index_t dim, std::optional<Real> cap = {}) {
  Real dot = 0;
  for (index_t c = 0; c < dim; ++c) dot += query[c] * from.key[c];
  Real       correction = 0;
  const auto groups     = from.variance ? static_cast<index_t>(from.variance->size()) : 0;
  for (index_t g = 0; g < groups; ++g) {
    const auto begin  = static_cast<index_t>(std::int64_t{g} * dim / groups);
    const auto end    = static_cast<index_t>((std::int64_t{g} + 1) * dim / groups);
    Real       square = 0;
    for (index_t c = begin; c < end; ++c) square += query[c] * query[c];
    correction += scale * scale * square * (*from.variance)[static_cast<std::size_t>(g)] / 2;
  }
  Real exact = scale * dot;
  if (cap) {
    constexpr Real largest = std::numeric_limits<Real>::max();
    const Real     part = std::tanh(exact / *cap), steep = 1 - part * part;
    exact      = *cap * part;
    correction = (correction < largest ? correction : largest) * steep * steep;  // at infinity, nothing
  }
  return exact + std::log(from.count) + std::min(Real(largest_correction), correction);
}

/// -infinity of nothing, or if all of them are.
template <class Real>
Real log_sum_exp(const std::vector<Real>& logits) {
  constexpr Real lowest = -std::numeric_limits<Real>::infinity();
  if (std::all_of(logits.begin(), logits.end(), [](Real x) { return x == lowest; })) return lowest;
  Real top = lowest, sum = 0;
  for (const Real x : logits) top = std::max(top, x);
  for (const Real x : logits) sum += std::exp(x - top);
  return top + std::log(sum);
}

/// The weights; zeros if all logits are -infinity. They are not made of log_sum_exp: where logits are so large that it
/// does not tell one from two of them, they would not add up to 1.
template <class Real>
std::vector<Real> softmax(const std::vector<Real>& logits) {
  constexpr Real    lowest = -std::numeric_limits<Real>::infinity();
  std::vector<Real> weights(logits.size(), Real(0));
  if (std::all_of(logits.begin(), logits.end(), [](Real x) { return x == lowest; })) return weights;
  Real top = lowest, sum = 0;
  for (const Real x : logits) top = std::max(top, x);
  for (const Real x : logits) sum += std::exp(x - top);
  for (std::size_t i = 0; i < logits.size(); ++i) weights[i] = std::exp(logits[i] - top) / sum;
  return weights;
}

/// What a call did, and per (token, KV head) why.
template <class Real>
struct attention_output {
  std::vector<Real>              out;          // [tokens, heads, value_dim]
  std::vector<Real>              log_sum_exp;  // [tokens, heads]: -infinity for a row that attends to nothing
  std::vector<std::vector<Real>> above;  // [tokens, kv_heads][leaves]: nats by which the most that a token of the tile,
                                         // so far, gives the leaf exceeds open_above: above 0 it is open
  std::vector<index_t> near_keys;        // [tokens, kv_heads]: sinks included
  std::vector<index_t> leaves;           // [tokens, kv_heads]: open and closed ones
  std::vector<index_t> opened;           // [tokens, kv_heads]: tokens of open leaves
  std::vector<Real>    closed_mass;  // [tokens, kv_heads]: share of the softmax that closed leaves of n > 1 have, mean
                                     // over the heads of the group
};

/// The walk of one KV head g over one sequence.
template <class Real, class Factor>
class attention_head {
 public:
  attention_head(const attention_input<Real>& in, index_t g, const assignment_of_tokens& rep,
                 const attention_options& options, attention_output<Real>& result)
      : in_(in), g_(g), rep_(rep), options_(options), result_(result) {
    scale_ = options.scale ? Real(*options.scale) : 1 / std::sqrt(Real(in.key_dim));
    if (options.softcap) cap_ = Real(*options.softcap);
    if (options.keys == key_set::near_and_far && options.open != opening::all)
      chain_ = chains(std::min(options.sink_tokens, in.tokens), in, g, rep, options);
  }

  void run() {
    for (index_t t = 0; t < in_.tokens; ++t) {
      const index_t first = options_.sliding_window ? std::max(0, t + 1 - *options_.sliding_window) : 0;
      switch (options_.keys) {
        case key_set::all: attend_alone(t, tokens(first, options_.causal ? t + 1 : in_.tokens)); break;
        case key_set::representatives: representatives(t); break;
        case key_set::near: attend_alone(t, near_field(t)); break;
        case key_set::near_and_far: near_and_far(t); break;
      }
    }
  }

 private:
  using sources = std::vector<source<Real>>;

  index_t edge(index_t t) const { return std::max(0, t / options_.chunk * options_.chunk - options_.window); }

  index_t rep(index_t t) const { return rep_[static_cast<std::size_t>(t)]; }

  source<Real> token(index_t t) const { return {in_.key(t, g_), in_.value(t, g_), 1, nullptr, t}; }

  sources tokens(index_t begin, index_t end) const {
    sources all;
    for (index_t t = begin; t < end; ++t) all.push_back(token(t));
    return all;
  }

  /// Sinks, then tokens from the edge to t.
  sources near_field(index_t t) const {
    sources all = tokens(0, std::min(options_.sink_tokens, edge(t)));
    for (index_t i = edge(t); i <= t; ++i) all.push_back(token(i));
    return all;
  }

  static void append(sources& all, const std::vector<group_of_tokens<Real>>& groups) {
    for (const auto& group : groups) all.push_back(group.summary());
  }

  /// Of token t's head h, whose query it is.
  std::vector<Real> logits(index_t t, index_t h, const Real* query, const sources& from) const {
    std::vector<Real> all;
    for (const auto& s : from) all.push_back(logit(query, s, scale_, in_.key_dim, cap_) - slope(h, t, s.position));
    return all;
  }

  Real slope(index_t h, index_t t, index_t j) const {
    return in_.slopes.empty() ? Real(0) : in_.slopes[static_cast<std::size_t>(h)] * static_cast<Real>(std::abs(t - j));
  }

  /// The logits and, last, the sink's: that of nothing if the head has none.
  std::vector<Real> with_sink(std::vector<Real> all, index_t h) const {
    const bool none = in_.sink_logits.empty();
    all.push_back(none ? -std::numeric_limits<Real>::infinity() : in_.sink_logits[static_cast<std::size_t>(h)]);
    return all;
  }

  /// out[t, h] += share * weights x values
  void add(index_t t, index_t h, const std::vector<Real>& weights, const sources& from, Real share) {
    Real* out = result_.out.data() + (std::ptrdiff_t{t} * in_.heads + h) * in_.value_dim;
    for (std::size_t i = 0; i < from.size(); ++i) {  // a sink's weight has no value
      const Real weight = share * Factor()(weights[i]);
      for (index_t c = 0; c < in_.value_dim; ++c) out[c] += weight * from[i].value[c];
    }
  }

  template <class Function>
  void for_each_head(Function function) const {
    for (index_t h = g_ * in_.group(); h < (g_ + 1) * in_.group(); ++h) function(h);
  }

  /// The whole of a row: one softmax over what it attends to. Returns the weights.
  std::vector<Real> attend(index_t t, index_t h, const Real* query, const sources& from) {
    const auto all     = with_sink(logits(t, h, query, from), h);
    const auto weights = softmax(all);
    add(t, h, weights, from, 1);
    log_sum_exp_of(t, h) = log_sum_exp(all);
    return weights;
  }

  void attend_alone(index_t t, const sources& from) {
    for_each_head([&](index_t h) { attend(t, h, in_.query(t, h), from); });
  }

  Real& log_sum_exp_of(index_t t, index_t h) { return result_.log_sum_exp[entry(t, in_.heads, h)]; }

  std::size_t row(index_t t) const { return entry(t, in_.kv_heads, g_); }

  void near_and_far(index_t t) {
    const index_t e = edge(t), sinks = std::min(options_.sink_tokens, e);
    if (options_.open == opening::all) return attend_alone(t, tokens(0, t + 1));
    if (t % options_.chunk == 0) far_ = leaves_before<Real, Factor>(e, sinks, in_, g_, chain_, options_);
    if (t % options_.chunk == 0 || t % options_.tile == 0)
      above_.assign(far_.size(), -std::numeric_limits<Real>::infinity());
    const sources near        = near_field(t);
    result_.near_keys[row(t)] = static_cast<index_t>(near.size());
    result_.leaves[row(t)]    = static_cast<index_t>(far_.size());
    if (options_.queries == query_set::grouped) return grouped(t, near);
    if (options_.open == opening::by_mass) open_leaves(t, near);
    attend_opened(t, near);
  }

  /// Opens the leaves that some head of token t gives more than its share.
  void open_leaves(index_t t, const sources& near) {
    sources everything = near;
    append(everything, far_);
    for_each_head([&](index_t h) {
      const auto all   = logits(t, h, in_.query(t, h), everything);
      const Real bound = log_sum_exp(with_sink(all, h)) + std::log(Real(options_.open_above));
      for (std::size_t j = 0; j < far_.size(); ++j) {
        if (far_[j].members.size() == 1) continue;
        above_[j] = std::max(above_[j], all[near.size() + j] - bound);
      }
    });
    result_.above[row(t)] = above_;
  }

  /// Near keys, closed leaves, and the tokens of open leaves.
  void attend_opened(index_t t, const sources& near) {
    sources              closed, all = near;
    std::vector<index_t> opened;
    for (std::size_t j = 0; j < far_.size(); ++j) {
      const bool open = above_[j] > 0;
      if (!open) closed.push_back(far_[j].summary());
      if (open) opened.insert(opened.end(), far_[j].members.begin(), far_[j].members.end());
    }
    all.insert(all.end(), closed.begin(), closed.end());
    for (const index_t i : opened) all.push_back(token(i));
    result_.opened[row(t)] = static_cast<index_t>(opened.size());
    for_each_head([&](index_t h) {
      const auto weights = attend(t, h, in_.query(t, h), all);
      for (std::size_t j = 0; j < closed.size(); ++j) count_closed(t, closed[j], weights[near.size() + j]);
    });
  }

  void count_closed(index_t t, const source<Real>& leaf, Real weight) {
    if (leaf.count > 1) result_.closed_mass[row(t)] += weight / static_cast<Real>(in_.group());
  }

  /// Two softmaxes, joined by their log-sum-exp. The far one is asked by the first token of the group.
  void grouped(index_t t, const sources& near) {
    index_t asking = t / options_.chunk * options_.chunk;
    while (rep(asking) != rep(t)) ++asking;
    sources far_field;
    append(far_field, far_);
    for_each_head([&](index_t h) {
      const auto              far_logits  = logits(asking, h, in_.query(asking, h), far_field);
      const auto              near_logits = with_sink(logits(t, h, in_.query(t, h), near), h);
      const auto              far_weights = softmax(far_logits), near_weights = softmax(near_logits);
      const std::vector<Real> both   = {log_sum_exp(near_logits), log_sum_exp(far_logits)};
      const auto              shares = softmax(both);
      log_sum_exp_of(t, h)           = log_sum_exp(both);
      add(t, h, near_weights, near, shares[0]);
      add(t, h, far_weights, far_field, shares[1]);
      for (std::size_t j = 0; j < far_field.size(); ++j) count_closed(t, far_field[j], shares[1] * far_weights[j]);
    });
  }

  /// The compressed problem: r x r, or all queries against the clusters.
  void representatives(index_t t) {
    if (t == 0) far_ = clusters_before<Real, Factor>(in_.tokens, in_, g_, rep_);
    const index_t        asking = options_.queries == query_set::all ? t : rep(t);
    sources              from;
    std::vector<index_t> askers = {asking};
    if (options_.weighted && !options_.causal) {
      append(from, far_);
      if (options_.queries == query_set::representatives)
        for (const auto& c : far_)
          if (c.members.front() == asking) askers = c.members;
    } else {
      for (const auto& c : far_) {
        const index_t member = c.members.front();
        if (options_.causal && member > asking) continue;
        const auto older = std::count_if(c.members.begin(), c.members.end(), [&](index_t i) { return i <= asking; });
        from.push_back(token(member));
        if (options_.weighted) from.back().count = static_cast<Real>(older);
      }
    }
    for_each_head([&](index_t h) {
      std::vector<const Real*> queries;
      queries.reserve(askers.size());
      for (const index_t i : askers) queries.push_back(in_.query(i, h));
      attend(t, h, mean<Real, Factor>(queries, in_.key_dim).data(), from);
    });
  }

  const attention_input<Real>&       in_;
  index_t                            g_;
  const assignment_of_tokens&        rep_;
  const attention_options&           options_;
  attention_output<Real>&            result_;
  Real                               scale_;
  std::optional<Real>                cap_;
  assignment_of_tokens               chain_;
  std::vector<group_of_tokens<Real>> far_;    // leaves before the edge of the present chunk, or all clusters
  std::vector<Real>                  above_;  // nats by which a token of the present tile at most gives each more than
                                              // open_above: those above 0 are open
};

/// The attention of `options` over one sequence. `reps`: nothing, one assignment for all KV heads, or one each.
template <class Real, class Factor = as_it_is>
attention_output<Real> attention(const attention_input<Real>& in, const std::vector<assignment_of_tokens>& reps,
                                 const attention_options& options) {
  const auto             T = static_cast<std::size_t>(in.tokens), rows = T * static_cast<std::size_t>(in.kv_heads);
  attention_output<Real> result;
  result.out.assign(T * static_cast<std::size_t>(in.heads * in.value_dim), Real(0));
  result.log_sum_exp.assign(T * static_cast<std::size_t>(in.heads), -std::numeric_limits<Real>::infinity());
  result.above.resize(rows);
  result.near_keys.assign(rows, 0), result.leaves.assign(rows, 0), result.opened.assign(rows, 0);
  result.closed_mass.assign(rows, Real(0));
  for (index_t g = 0; g < in.kv_heads; ++g) {
    const auto                 own = reps.size() > 1 ? static_cast<std::size_t>(g) : 0;
    const assignment_of_tokens none;
    attention_head<Real, Factor>(in, g, reps.empty() ? none : reps[own], options, result).run();
  }
  return result;
}

/// Rows [rows, dim] for two sets of keys as those for both: weighed by exp of their log-sum-exps [rows].
template <class Real>
void merge(const std::vector<Real>& first, const std::vector<Real>& first_lse, const std::vector<Real>& second,
           const std::vector<Real>& second_lse, index_t dim, std::vector<Real>& out, std::vector<Real>& lse) {
  for (std::size_t row = 0; row < first_lse.size(); ++row) {
    const std::vector<Real> both   = {first_lse[row], second_lse[row]};
    const auto              shares = softmax(both);
    for (std::size_t i = row * static_cast<std::size_t>(dim); i < (row + 1) * static_cast<std::size_t>(dim); ++i)
      out[i] = shares[0] * first[i] + shares[1] * second[i];
    lse[row] = log_sum_exp(both);
  }
}

}  // namespace cascada::inline CASCADA_ABI::reference
