#pragma once
// The groups of tokens that stand in for older tokens: clusters, and the leaves that chains of like keys are cut into.

#include <cstddef>
#include <optional>
#include <vector>

#include "cascada/attention_options.hpp"
#include "cascada/reference/groups.hpp"
#include "cascada/reference/selection.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::reference {

/// The clusters of tokens [0, end), by ascending representative.
template <class Real>
std::vector<group_of_tokens<Real>> clusters_before(index_t end, const attention_input<Real>& in, index_t g,
                                                   const assignment_of_tokens& rep) {
  std::vector<group_of_tokens<Real>> all;
  for (index_t j = 0; j < end; ++j) {
    if (rep[static_cast<std::size_t>(j)] != j) continue;
    all.emplace_back();
    for (index_t i = j; i < end; ++i)
      if (rep[static_cast<std::size_t>(i)] == j) all.back().members.push_back(i);
    summarise(all.back(), in, g, 0);
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
template <class Real>
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
  for (auto& leaf : all) summarise(leaf, in, g, options.moments.value_or(0), options.summaries);
  return all;
}

}  // namespace cascada::inline CASCADA_ABI::reference
