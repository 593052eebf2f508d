#pragma once
// Attention as the definitions read: for every query, list what it attends to, and take the softmax.
//
// What a query attends to is a token, or a cluster: its mean key and mean value, counted as often as it has members.
// With Real = double this is the oracle of the kernels; with Real = float it is the plain implementation that their
// error is measured against. With Operand = bfloat16 the factors of products are bfloat16, as far as they are not so
// already: means of keys, values and queries, and the weights, which are normalised first. It shares no code with them.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "cascada/attention_options.hpp"
#include "cascada/config.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::reference {

/// One sequence: q [tokens, heads, key_dim], k [tokens, kv_heads, key_dim], v [tokens, kv_heads, value_dim].
template <class Real>
struct attention_input {
  index_t           tokens = 0, heads = 1, kv_heads = 1, key_dim = 1, value_dim = 1;
  std::vector<Real> q, k, v;

  index_t     group() const { return heads / kv_heads; }
  const Real* query(index_t t, index_t h) const { return q.data() + (std::ptrdiff_t{t} * heads + h) * key_dim; }
  const Real* key(index_t t, index_t g) const { return k.data() + (std::ptrdiff_t{t} * kv_heads + g) * key_dim; }
  const Real* value(index_t t, index_t g) const { return v.data() + (std::ptrdiff_t{t} * kv_heads + g) * value_dim; }
};

/// The representative of every token.
using assignment_of_tokens = std::vector<index_t>;

/// One thing to attend to.
template <class Real>
struct source {
  const Real* key;
  const Real* value;
  Real        count = 1;
};

/// Members of one cluster among some first tokens, with their mean key and value.
template <class Real>
struct cluster {
  std::vector<index_t> members;
  std::vector<Real>    key, value;
};

/// As a factor of a product.
template <class Real, class Operand>
Real factor(Real x) {
  if constexpr (std::is_same_v<Real, Operand>)
    return x;
  else
    return static_cast<Real>(to_float(from_float<Operand>(static_cast<float>(x))));
}

template <class Real, class Operand = Real>
std::vector<Real> mean(const std::vector<const Real*>& rows, index_t dim) {
  std::vector<Real> sum(static_cast<std::size_t>(dim), Real(0));
  for (const Real* row : rows)
    for (index_t c = 0; c < dim; ++c) sum[static_cast<std::size_t>(c)] += row[c];
  for (Real& x : sum) x = factor<Real, Operand>(x / static_cast<Real>(rows.size()));
  return sum;
}

/// The clusters of tokens [0, end), by ascending representative.
template <class Real, class Operand = Real>
std::vector<cluster<Real>> clusters_before(index_t end, const attention_input<Real>& in, index_t g,
                                           const assignment_of_tokens& rep) {
  std::vector<cluster<Real>> all;
  for (index_t j = 0; j < end; ++j) {
    if (rep[static_cast<std::size_t>(j)] != j) continue;
    cluster<Real>            c;
    std::vector<const Real*> keys, values;
    for (index_t i = j; i < end; ++i)
      if (rep[static_cast<std::size_t>(i)] == j)
        c.members.push_back(i), keys.push_back(in.key(i, g)), values.push_back(in.value(i, g));
    c.key   = mean<Real, Operand>(keys, in.key_dim);
    c.value = mean<Real, Operand>(values, in.value_dim);
    all.push_back(c);
  }
  return all;
}

/// scale q . k + log(count)
template <class Real>
Real logit(const Real* query, const source<Real>& from, Real scale, index_t dim) {
  Real dot = 0;
  for (index_t c = 0; c < dim; ++c) dot += query[c] * from.key[c];
  return scale * dot + std::log(from.count);
}

template <class Real>
Real log_sum_exp(const std::vector<Real>& logits) {
  Real top = -std::numeric_limits<Real>::infinity(), sum = 0;
  for (const Real x : logits) top = std::max(top, x);
  for (const Real x : logits) sum += std::exp(x - top);
  return top + std::log(sum);
}

/// The walk of one KV head g over one sequence.
template <class Real, class Operand>
class attention_head {
 public:
  attention_head(const attention_input<Real>& in, index_t g, const assignment_of_tokens& rep,
                 const attention_options& options, std::vector<Real>& out, std::vector<Real>& margins)
      : in_(in), g_(g), rep_(rep), options_(options), out_(out), margins_(margins) {
    scale_ = options.scale > 0 ? Real(options.scale) : 1 / std::sqrt(Real(in.key_dim));
  }

  void run() {
    for (index_t t = 0; t < in_.tokens; ++t) {
      if (options_.keys == key_set::all) attend_alone(t, tokens(0, options_.causal ? t + 1 : in_.tokens));
      if (options_.keys == key_set::near) attend_alone(t, tokens(near(t), t + 1));
      if (options_.keys == key_set::near_and_far) near_and_far(t);
      if (options_.keys == key_set::representatives) representatives(t);
    }
  }

 private:
  using sources = std::vector<source<Real>>;

  index_t near(index_t t) const { return std::max(0, t / options_.chunk * options_.chunk - options_.window); }

  index_t rep(index_t t) const { return rep_[static_cast<std::size_t>(t)]; }

  source<Real> token(index_t t) const { return {in_.key(t, g_), in_.value(t, g_)}; }

  sources tokens(index_t begin, index_t end) const {
    sources all;
    for (index_t t = begin; t < end; ++t) all.push_back(token(t));
    return all;
  }

  static void append(sources& all, const std::vector<cluster<Real>>& clusters) {
    for (const auto& c : clusters) all.push_back({c.key.data(), c.value.data(), static_cast<Real>(c.members.size())});
  }

  std::vector<Real> logits(const Real* query, const sources& from) const {
    std::vector<Real> all;
    for (const auto& s : from) all.push_back(logit(query, s, scale_, in_.key_dim));
    return all;
  }

  /// out[t, h] += share * softmax(logits) values. Nothing to attend to leaves zeros.
  void add(index_t t, index_t h, const std::vector<Real>& logits, const sources& from, Real share) const {
    Real*      out   = out_.data() + (std::ptrdiff_t{t} * in_.heads + h) * in_.value_dim;
    const Real total = log_sum_exp(logits);
    for (std::size_t i = 0; i < from.size(); ++i) {
      const Real weight = share * factor<Real, Operand>(std::exp(logits[i] - total));
      for (index_t c = 0; c < in_.value_dim; ++c) out[c] += weight * from[i].value[c];
    }
  }

  template <class Function>
  void for_each_head(Function function) const {
    for (index_t h = g_ * in_.group(); h < (g_ + 1) * in_.group(); ++h) function(h);
  }

  void attend_alone(index_t t, const sources& from) const {
    for_each_head([&](index_t h) { add(t, h, logits(in_.query(t, h), from), from, 1); });
  }

  /// Modes 3, 4 and 5.
  void near_and_far(index_t t) {
    const index_t edge = near(t);
    if (t % options_.chunk == 0) far_ = clusters_before<Real, Operand>(edge, in_, g_, rep_);
    sources near_field = tokens(edge, t + 1);
    if (edge <= options_.budget) return attend_alone(t, tokens(0, t + 1));
    if (options_.budget > 0) return attend_alone(t, refined(t, near_field));
    if (options_.queries == query_set::grouped) return grouped(t, near_field);
    append(near_field, far_);
    attend_alone(t, near_field);
  }

  /// Mode 4: two softmaxes, joined by their log-sum-exp. The far one is asked by the group.
  void grouped(index_t t, const sources& near_field) const {
    const index_t begin = t / options_.chunk * options_.chunk;
    const index_t end   = options_.lookahead ? std::min(in_.tokens, begin + options_.chunk) : t + 1;
    sources       far_field;
    append(far_field, far_);
    for_each_head([&](index_t h) {
      std::vector<const Real*> asking;
      for (index_t i = begin; i < end; ++i)
        if (rep(i) == rep(t)) asking.push_back(in_.query(i, h));
      if (!options_.lookahead) asking.resize(1);
      const auto far_logits  = logits(mean<Real, Operand>(asking, in_.key_dim).data(), far_field);
      const auto near_logits = logits(in_.query(t, h), near_field);
      const Real far_total = log_sum_exp(far_logits), near_total = log_sum_exp(near_logits);
      const Real total = log_sum_exp(std::vector<Real>{far_total, near_total});
      add(t, h, near_logits, near_field, std::exp(near_total - total));
      add(t, h, far_logits, far_field, std::exp(far_total - total));
    });
  }

  /// sum over the group's heads of exp(logit - L_h).
  Real score(index_t t, const source<Real>& from, const std::vector<Real>& log_sums) const {
    Real sum = 0;
    for_each_head([&](index_t h) {
      sum += std::exp(logit(in_.query(t, h), from, scale_, in_.key_dim) -
                      log_sums[static_cast<std::size_t>(h - g_ * in_.group())]);
    });
    return sum;
  }

  /// Indices by descending score, ties to the lower index. The gaps around place `cut`, relative to the scores, say by
  /// how little another rounding could decide otherwise.
  std::vector<std::size_t> ranking(const std::vector<Real>& scores, std::size_t cut, Real& margin) const {
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return scores[a] > scores[b] || (scores[a] == scores[b] && a < b); });
    if (cut > 0 && cut < order.size()) {
      const Real above = scores[order[cut - 1]], below = scores[order[cut]];
      margin = std::min(margin, (above - below) / above);
    }
    return order;
  }

  /// Mode 5: near tokens, chosen tokens, and what is left of the clusters.
  sources refined(index_t t, const sources& near_field) {
    sources everything = near_field;
    append(everything, far_);
    std::vector<Real> log_sums;
    for_each_head([&](index_t h) { log_sums.push_back(log_sum_exp(logits(in_.query(t, h), everything))); });

    std::vector<Real> cluster_scores;
    for (std::size_t j = near_field.size(); j < everything.size(); ++j)
      cluster_scores.push_back(score(t, everything[j], log_sums));
    Real&      margin = margins_[static_cast<std::size_t>(t * in_.kv_heads + g_)];
    const auto limit  = static_cast<std::size_t>(options_.budget) * static_cast<std::size_t>(options_.candidates);
    std::vector<index_t> candidates;
    std::size_t          used = 0;
    for (const std::size_t j : ranking(cluster_scores, 0, margin)) {
      if (candidates.size() == limit) break;
      for (const index_t i : far_[j].members)
        if (candidates.size() < limit) candidates.push_back(i);
      ++used;
    }
    ranking(cluster_scores, used, margin), ranking(cluster_scores, used - 1, margin);

    std::sort(candidates.begin(), candidates.end());
    std::vector<Real> scores;
    for (const index_t i : candidates) scores.push_back(score(t, token(i), log_sums));
    const auto budget = static_cast<std::size_t>(options_.budget);
    sources    kept   = near_field;
    auto       left   = far_;
    const auto order  = ranking(scores, budget, margin);
    for (std::size_t n = 0; n < std::min(budget, order.size()); ++n) {
      const index_t chosen = candidates[order[n]];
      kept.push_back(token(chosen));
      for (auto& c : left) std::erase(c.members, chosen);
    }
    for (std::size_t j = 0; j < left.size(); ++j)
      if (!left[j].members.empty())
        kept.push_back({far_[j].key.data(), far_[j].value.data(), static_cast<Real>(left[j].members.size())});
    return kept;
  }

  /// Modes 1 and 2, and bidirectional T x r.
  void representatives(index_t t) {
    if (t == 0) far_ = clusters_before<Real, Operand>(in_.tokens, in_, g_, rep_);
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
      for (const index_t i : askers) queries.push_back(in_.query(i, h));
      add(t, h, logits(mean<Real, Operand>(queries, in_.key_dim).data(), from), from, 1);
    });
  }

  const attention_input<Real>& in_;
  index_t                      g_;
  const assignment_of_tokens&  rep_;
  const attention_options&     options_;
  std::vector<Real>&           out_;
  std::vector<Real>&           margins_;
  Real                         scale_;
  std::vector<cluster<Real>>   far_;
};

/// Output rows, and how narrowly the refinement decided.
template <class Real>
struct attention_output {
  std::vector<Real> out;      // [tokens, heads, value_dim]
  std::vector<Real> margins;  // [tokens, kv_heads]: smallest relative gap of scores at a cut; infinity without one
};

/// The attention of `options` over one sequence. `reps`: nothing, one assignment for all KV heads, or one each.
template <class Real, class Operand = Real>
attention_output<Real> attention(const attention_input<Real>& in, const std::vector<assignment_of_tokens>& reps,
                                 const attention_options& options) {
  const auto             T = static_cast<std::size_t>(in.tokens);
  attention_output<Real> result;
  result.out.assign(T * static_cast<std::size_t>(in.heads * in.value_dim), Real(0));
  result.margins.assign(T * static_cast<std::size_t>(in.kv_heads), std::numeric_limits<Real>::infinity());
  for (index_t g = 0; g < in.kv_heads; ++g) {
    const auto                 own = reps.size() > 1 ? static_cast<std::size_t>(g) : 0;
    const assignment_of_tokens none;
    attention_head<Real, Operand>(in, g, reps.empty() ? none : reps[own], options, result.out, result.margins).run();
  }
  return result;
}

}  // namespace cascada::inline CASCADA_ABI::reference
