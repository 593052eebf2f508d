#pragma once
// What attention on the device is measured against: the reference in double, and plain loops that lose as many digits.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

#include "hip/attention_data.hpp"

namespace tests {

/// Loops that lose what the device's contract allows: means are rounded; and weights, relative to the largest of the
/// first 32 logits, cut off, a little too large before, as they meet the values and are summed.
template <class Scalar>
class plain_attention {
 public:
  plain_attention(const attention_options& options, const problem<Scalar>& p, const std::vector<selection>& selections)
      : options_(options), in_(p.template input<float>()), selections_(selections) {}

  std::vector<float> operator()() {
    std::vector<float> out;
    for (index_t g = 0; g < in_.kv_heads && options_.keys == key_set::near_and_far; ++g)
      chains_.push_back(reference::chains(options_.sink_tokens, in_, g, selection_of(g).rep, options_));
    for (index_t t = 0; t < in_.tokens; ++t)
      for (index_t h = 0; h < in_.heads; ++h) attend(t, h, out);
    return out;
  }

 private:
  using row = std::vector<float>;

  struct source {
    row                  key, value;
    float                count    = 1;
    row                  variance = {};  // of each group of dimensions
    std::vector<index_t> members  = {};  // of a group
    index_t              token    = 0;   // or its own
  };
  using sources = std::vector<source>;

  /// A softmax: average of values, log of the sum.
  struct answer {
    row   out;
    float log_sum;
  };

  static constexpr float nothing = -std::numeric_limits<float>::infinity();

  static float rounded(float x) { return to_float(from_float<Scalar>(x)); }

  /// The nearest Scalar not above x, of positive x that are larger by what they lose on average: on [1, 2), where logs
  /// are as likely as each other, half of a last place times 1 / (2 ln 2).
  static float cut_off(float x) {
    constexpr double last  = std::same_as<Scalar, bfloat16> ? 0x1p-7 : 0x1p-10;
    const auto       more  = static_cast<float>(x * (1 + last / 4 / std::numbers::ln2));
    Scalar           below = from_float<Scalar>(more);
    if (to_float(below) > more) --below.bits;
    return to_float(below);
  }

  const selection& selection_of(index_t g) const {
    return selections_[selections_.size() > 1 ? static_cast<std::size_t>(g) : 0];
  }
  index_t rep(index_t t) const { return (*rep_)[static_cast<std::size_t>(t)]; }
  float   sink(index_t h) const {
    return in_.sink_logits.empty() ? nothing : in_.sink_logits[static_cast<std::size_t>(h)];
  }
  row query(index_t t, index_t h) const { return {in_.query(t, h), in_.query(t, h) + in_.key_dim}; }

  template <class Row>
  row mean(const std::vector<index_t>& tokens, Row of) const {
    row sum(static_cast<std::size_t>(in_.key_dim));
    for (const index_t i : tokens)
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += of(i)[c];
    for (float& x : sum) x = rounded(x / static_cast<float>(tokens.size()));
    return sum;
  }

  std::vector<index_t> members(index_t j, index_t begin, index_t end) const {
    std::vector<index_t> all;
    for (index_t i = begin; i < end; ++i)
      if (rep(i) == j) all.push_back(i);
    return all;
  }

  source token(index_t i, index_t g) const {
    return {
        {in_.key(i, g), in_.key(i, g) + in_.key_dim}, {in_.value(i, g), in_.value(i, g) + in_.key_dim}, 1, {}, {}, i};
  }

  /// What stands for tokens.
  source group(const std::vector<index_t>& of, index_t g, index_t moments = 0) const {
    return {mean(of, [&](index_t i) { return in_.key(i, g); }), mean(of, [&](index_t i) { return in_.value(i, g); }),
            static_cast<float>(of.size()), variances(of, g, moments), of};
  }

  row variances(const std::vector<index_t>& of, index_t g, index_t moments) const {
    row all;
    for (index_t m = 0; m < moments; ++m) {
      const index_t begin = m * in_.key_dim / moments, end = (m + 1) * in_.key_dim / moments;
      float         sum = 0;
      for (index_t c = begin; c < end; ++c) {
        float mean = 0;
        for (const index_t i : of) mean += in_.key(i, g)[c] / static_cast<float>(of.size());
        for (const index_t i : of) sum += (in_.key(i, g)[c] - mean) * (in_.key(i, g)[c] - mean);
      }
      all.push_back(sum / static_cast<float>(of.size()) / static_cast<float>(end - begin));
    }
    return all;
  }

  sources clusters(index_t end, index_t g) const {
    sources all;
    for (index_t j = 0; j < end; ++j)
      if (rep(j) == j) all.push_back(group(members(j, j, end), g));
    return all;
  }

  /// Of all tokens before the edge but the sinks.
  sources leaves(index_t edge, index_t g) const {
    sources all;
    for (index_t j = 0; j < edge; ++j) {
      std::vector<index_t> leaf;
      for (index_t i = std::max(j, options_.sink_tokens); i < edge; ++i) {
        if (chains_[static_cast<std::size_t>(g)][static_cast<std::size_t>(i)] != j) continue;
        leaf.push_back(i);
        if (static_cast<index_t>(leaf.size()) < options_.leaf) continue;
        all.push_back(group(leaf, g, options_.moments.value_or(0)));
        leaf.clear();
      }
      if (!leaf.empty()) all.push_back(group(leaf, g, options_.moments.value_or(0)));
    }
    return all;
  }

  sources near_field(index_t t, index_t g, index_t edge) const {
    sources       all  = tokens(0, std::min(options_.sink_tokens, edge), g);
    const sources near = tokens(edge, t + 1, g);
    all.insert(all.end(), near.begin(), near.end());
    return all;
  }

  sources tokens(index_t begin, index_t end, index_t g) const {
    sources all;
    for (index_t i = begin; i < end; ++i) all.push_back(token(i, g));
    return all;
  }

  sources tokens(const std::vector<index_t>& of, index_t g) const {
    sources all;
    for (const index_t i : of) all.push_back(token(i, g));
    return all;
  }

  float logit(const row& query, const source& from) const {
    float dot = 0;
    for (std::size_t c = 0; c < query.size(); ++c) dot += query[c] * from.key[c];
    const float scale      = options_.scale ? *options_.scale : 1 / std::sqrt(static_cast<float>(in_.key_dim));
    const auto  groups     = static_cast<index_t>(from.variance.size());
    float       correction = 0;
    for (index_t m = 0; m < groups; ++m) {
      float square = 0;
      for (index_t c = m * in_.key_dim / groups; c < (m + 1) * in_.key_dim / groups; ++c)
        square += query[static_cast<std::size_t>(c)] * query[static_cast<std::size_t>(c)];
      correction += scale * scale * square * from.variance[static_cast<std::size_t>(m)] / 2;
    }
    float exact = dot * scale;
    if (options_.softcap) {
      const float part = std::tanh(exact / *options_.softcap);
      exact            = *options_.softcap * part;
      correction *= (1 - part * part) * (1 - part * part);
    }
    if (!in_.slopes.empty())
      exact -= in_.slopes[static_cast<std::size_t>(head_)] * static_cast<float>(std::abs(token_ - from.token));
    return exact + std::log(from.count) + std::min(largest_correction, correction);
  }

  /// With the logit of the head's sink, if it has one.
  answer ask(const row& query, const sources& from, float sink = nothing) const {
    answer found = {row(static_cast<std::size_t>(in_.key_dim)), 0};
    row    logits;
    float  top = -std::numeric_limits<float>::infinity(), total = 0;
    for (const source& s : from) logits.push_back(logit(query, s));
    for (std::size_t i = 0; i < std::min<std::size_t>(32, logits.size()); ++i) top = std::max(top, logits[i]);
    for (std::size_t i = 0; i < from.size(); ++i) {
      const float weight = cut_off(std::exp(logits[i] - top));
      total += weight;
      for (std::size_t c = 0; c < found.out.size(); ++c) found.out[c] += weight * from[i].value[c];
    }
    total += std::exp(sink - top);
    for (float& x : found.out) x /= total;
    found.log_sum = top + std::log(total);
    return found;
  }

  answer merged(const answer& a, const answer& b) const {
    const float total = std::log(1 + std::exp(b.log_sum - a.log_sum));
    answer      both  = a;
    for (std::size_t c = 0; c < both.out.size(); ++c)
      both.out[c] = std::exp(-total) * a.out[c] + std::exp(b.log_sum - a.log_sum - total) * b.out[c];
    return both;
  }

  answer near_and_far(index_t t, index_t h, index_t g, index_t edge) const {
    if (options_.open == opening::all) return ask(query(t, h), tokens(0, t + 1, g), sink(h));
    sources       near = near_field(t, g, edge);
    const sources far  = leaves(edge, g);
    if (options_.queries == query_set::grouped && !far.empty()) {
      index_t asking = t / options_.chunk * options_.chunk;
      while (rep(asking) != rep(t)) ++asking;
      return merged(ask(query(t, h), near, sink(h)), ask(query(asking, h), far));
    }
    for (const source& leaf : far) {
      const bool    open = options_.open == opening::by_mass && opens(leaf, t, g, edge, far);
      const sources all  = open ? tokens(leaf.members, g) : sources{leaf};
      near.insert(near.end(), all.begin(), all.end());
    }
    return ask(query(t, h), near, sink(h));
  }

  /// Whether a leaf has more than its share for token t, or for an earlier one of its tile.
  bool opens(const source& leaf, index_t t, index_t g, index_t edge, const sources& far) const {
    for (index_t i = t / options_.tile * options_.tile; i <= t && leaf.members.size() > 1; ++i)
      for (index_t h = g * in_.group(); h < (g + 1) * in_.group(); ++h) {
        sources all = near_field(i, g, edge);
        all.insert(all.end(), far.begin(), far.end());
        const row asking = query(i, h);
        if (logit(asking, leaf) > ask(asking, all, sink(h)).log_sum + std::log(options_.open_above)) return true;
      }
    return false;
  }

  answer representatives(index_t t, index_t h, index_t g) const {
    const bool    lifted = options_.queries == query_set::representatives;
    const index_t asking = lifted ? rep(t) : t;
    if (options_.weighted && !options_.causal)
      return ask(lifted ? mean(members(asking, asking, in_.tokens), [&](index_t i) { return in_.query(i, h); })
                        : query(asking, h),
                 clusters(in_.tokens, g), sink(h));
    sources from;
    for (index_t j = 0; j < (options_.causal ? asking + 1 : in_.tokens); ++j) {
      if (rep(j) != j) continue;
      from.push_back(token(j, g));
      if (options_.weighted) from.back().count = static_cast<float>(members(j, j, asking + 1).size());
    }
    return ask(query(asking, h), from, sink(h));
  }

  index_t first(index_t t) const { return options_.sliding_window ? std::max(0, t + 1 - *options_.sliding_window) : 0; }

  void attend(index_t t, index_t h, std::vector<float>& out) {
    const index_t g = h / in_.group(), edge = std::max(0, t / options_.chunk * options_.chunk - options_.window);
    answer        found;
    rep_ = &selection_of(g).rep, token_ = t, head_ = h;
    switch (options_.keys) {
      case key_set::all:
        found = ask(query(t, h), tokens(first(t), options_.causal ? t + 1 : in_.tokens, g), sink(h));
        break;
      case key_set::near: found = ask(query(t, h), near_field(t, g, edge), sink(h)); break;
      case key_set::near_and_far: found = near_and_far(t, h, g, edge); break;
      case key_set::representatives: found = representatives(t, h, g); break;
    }
    out.insert(out.end(), found.out.begin(), found.out.end());
  }

  attention_options                 options_;
  reference::attention_input<float> in_;
  std::vector<selection>            selections_;
  const std::vector<index_t>*       rep_   = nullptr;       // of the KV head
  index_t                           token_ = 0, head_ = 0;  // that ask

  std::vector<reference::assignment_of_tokens> chains_ = {};  // of all KV heads
};

/// Nats from the threshold within which a leaf may be open on the device and closed in the reference, or the other way:
/// means and weights have 16 bits, and corrections to a hundredth of a nat.
inline constexpr double undecided = 0.01;

/// FlashAttention's rule: at most twice the error of the plain implementation in the same precision. Rows for which a
/// leaf is undecided are left out, of these rows a quarter at most.
template <class Scalar, class Out = float>
void check_close(const attention_options& options, const problem<Scalar>& p, const std::vector<selection>& selections,
                 unsigned seed) {
  CAPTURE(p.size, seed);
  const auto  exact = reference::attention(p.template input<double>(), assignments(selections), options);
  const auto  plain = plain_attention<Scalar>(options, p, selections)();
  const auto  ours  = attend_on_device<Out>(options, p, selections, seed);
  double      worst = 0, allowed = 0, largest = 0;
  index_t     skipped = 0;
  std::size_t i       = 0;
  REQUIRE(ours.size() == exact.out.size());
  REQUIRE(plain.size() == exact.out.size());
  for (index_t t = 0; t < p.size.tokens; ++t)
    for (index_t h = 0; h < p.size.heads; ++h) {
      const index_t kv_head = h * p.size.kv_heads / p.size.heads;
      const bool    skip    = margin(exact, static_cast<std::size_t>(t * p.size.kv_heads + kv_head)) < undecided;
      skipped += skip;
      for (index_t c = 0; c < p.size.value_dim; ++c, ++i) {
        if (skip) continue;
        worst   = larger(worst, std::fabs(ours[i] - exact.out[i]));
        allowed = std::max(allowed, std::fabs(to_float(from_float<Out>(plain[i])) - exact.out[i]));
        largest = std::max(largest, std::fabs(exact.out[i]));
      }
    }
  CAPTURE(worst, allowed, skipped);
  // The floor: rows of one key are exact in the plain loops.
  CHECK(worst <= 2 * allowed + 4 * std::numeric_limits<float>::epsilon() * largest);
  CHECK(4 * skipped <= p.size.tokens * p.size.heads);
}

template <class Scalar, class Out = float>
void check_close(const attention_options& options, const shape& size, const selection& chosen, unsigned seed) {
  check_close<Scalar, Out>(options, problem<Scalar>(size, seed), {chosen}, seed);
}

}  // namespace tests
