#pragma once
// Attention as the definitions read: for every query, list what it attends to (groups.hpp, far_field.hpp), and take the
// softmax (softmax.hpp).
//
// A group of tokens counts as often as it has members. Weights exist as logarithms until the last step, so that logits
// may lie hundreds of nats apart.
//
// With Real = double this is the oracle of the kernels, with which it shares options, conversions of element types and
// the cap of the correction, and no other code; with Real = float it is the plain implementation that their error is
// measured against.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

#include "cascada/attention_options.hpp"
#include "cascada/config.hpp"
#include "cascada/reference/far_field.hpp"
#include "cascada/reference/groups.hpp"
#include "cascada/reference/softmax.hpp"

namespace cascada::inline CASCADA_ABI::reference {

/// Where entry i of row t lies, n entries a row.
inline std::size_t entry(index_t t, index_t n, index_t i) {
  return static_cast<std::size_t>(t) * static_cast<std::size_t>(n) + static_cast<std::size_t>(i);
}

/// What a call gives, and for each (token, KV head) of near + far how.
template <class Real>
struct attention_output {
  std::vector<Real>              out;          // [tokens, heads, value_dim]
  std::vector<Real>              log_sum_exp;  // [tokens, heads]: -infinity for a row that attends to nothing
  std::vector<std::vector<Real>> above;  // [tokens, kv_heads][leaves]: the largest logit, less its bound, that the
                                         // tile's tokens so far give the leaf: above 0 it is open
  std::vector<index_t> near_keys;        // [tokens, kv_heads]: sinks included
  std::vector<index_t> leaves;           // [tokens, kv_heads]: open and closed ones
  std::vector<index_t> opened;           // [tokens, kv_heads]: tokens of open leaves
  std::vector<Real>    closed_mass;  // [tokens, kv_heads]: share of the softmax that closed leaves of n > 1 have, mean
                                     // over the heads of the group
};

/// The walk of one KV head g over one sequence.
template <class Real>
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
      const Real weight = share * in_.round(weights[i]);
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
    if (t % options_.chunk == 0) far_ = leaves_before(e, sinks, in_, g_, chain_, options_);
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

  /// Two softmaxes, joined by their log-sum-exp. The far one is that of the group's first query.
  void grouped(index_t t, const sources& near) {
    index_t leader = t / options_.chunk * options_.chunk;
    while (rep(leader) != rep(t)) ++leader;
    sources far_field;
    append(far_field, far_);
    for_each_head([&](index_t h) {
      const auto              far_logits  = logits(leader, h, in_.query(leader, h), far_field);
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
    if (t == 0) far_ = clusters_before(in_.tokens, in_, g_, rep_);
    const index_t        position = options_.queries == query_set::all ? t : rep(t);
    sources              from;
    std::vector<index_t> averaged = {position};
    if (options_.weighted && !options_.causal) {
      append(from, far_);
      if (options_.queries == query_set::representatives)
        for (const auto& c : far_)
          if (c.members.front() == position) averaged = c.members;
    } else {
      for (const auto& c : far_) {
        const index_t member = c.members.front();
        if (options_.causal && member > position) continue;
        const auto older = std::count_if(c.members.begin(), c.members.end(), [&](index_t i) { return i <= position; });
        from.push_back(token(member));
        if (options_.weighted) from.back().count = static_cast<Real>(older);
      }
    }
    for_each_head([&](index_t h) {
      std::vector<const Real*> queries;
      queries.reserve(averaged.size());
      for (const index_t i : averaged) queries.push_back(in_.query(i, h));
      attend(t, h, rounded(mean(queries, in_.key_dim), in_).data(), from);
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
  std::vector<Real>                  above_;  // the largest logit, less its bound, that tokens of the present tile give
                                              // each: those above 0 are open
};

/// The attention of `options` over one sequence. `reps`: nothing, one assignment for all KV heads, or one each.
template <class Real>
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
    attention_head<Real>(in, g, reps.empty() ? none : reps[own], options, result).run();
  }
  return result;
}

}  // namespace cascada::inline CASCADA_ABI::reference
