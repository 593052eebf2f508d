#pragma once
// A run's numbers as tables on stdout.

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>

#include "engine/report.hpp"

namespace engine {

inline void print_layers(const report& run) {
  std::printf("\nThe cascade on the dense model's layers (T = %d, tau = %g; Gram operations in thousands, of %.0f)\n\n",
              run.tokens, static_cast<double>(run.threshold),
              static_cast<double>(cascada::full_gram_operations(run.tokens)) / 1e3);
  std::printf("                                        Gram operations, exact cascade       saved of T(T-1)/2\n");
  std::printf("layer    r   r/T   add remove Jaccard  inherit validate orphans   total    exact  paper  cross-Gram\n");
  const bool by_head = run.layers.size() > 1 && run.layers[1].layer == 0;
  for (const auto& [layer, set, exact, paper, full, same_set, same_rep] : run.layers) {
    const auto  thousands = [](std::int64_t operations) { return static_cast<double>(operations) / 1e3; };
    std::string name      = std::to_string(layer);
    if (by_head) name.append(1, '.').append(std::to_string(set));
    std::printf("%5s %4d  %.2f", name.c_str(), exact.representatives,
                static_cast<double>(exact.representatives) / exact.tokens);
    if (!exact.jaccard)
      std::printf("                                 full selection");
    else
      std::printf(" %5d  %5d   %.3f  %7.1f  %7.1f %7.1f", exact.additions, exact.removals, *exact.jaccard,
                  thousands(exact.gram.inherited), thousands(exact.gram.validation), thousands(exact.gram.orphans));
    std::printf(" %7.1f   %5.1f%% %5.1f%%", thousands(exact.gram.total()), 100 * exact.savings(),
                100 * paper.savings());
    if (exact.jaccard) std::printf("      %5.1f%%", 100 * paper.savings_cross_gram_only());
    std::printf("%s\n", same_set && same_rep ? "" : "  NOT THE SET OF FULL SELECTION");
  }
  const cascade_summary mean = summarise(run.layers);
  std::printf(
      " mean       %.2f                %.3f                                      %5.1f%% %5.1f%%      %5.1f%%\n",
      mean.share, mean.jaccard, 100 * mean.savings_exact, 100 * mean.savings_paper_mode,
      100 * mean.savings_cross_gram_only);
  std::printf("(means without layer 0%s)\n\n%s\n", by_head ? "; 4.1 is the second KV head of layer 4" : "",
              sets_equal(run) ? "In every layer the cascade's set, exact and paper mode, equals that of full selection."
                              : "THE CASCADE'S SET DIFFERS FROM FULL SELECTION.");
}

/// `value`, or a hyphen where a mode has none.
inline void print_cell(std::optional<double> value, int width, int digits) {
  if (value)
    std::printf("  %*.*f", width, digits, *value);
  else
    std::printf("  %*s", width, "-");
}

inline void print_mode(const mode_result& mode) {
  const auto if_any = [](double value, bool any) { return any ? std::optional(value) : std::nullopt; };
  std::printf("%-16s", mode.name.c_str());
  print_cell(if_any(static_cast<double>(mode.threshold), mode.share > 0), 4, 2);
  print_cell(if_any(mode.share, mode.share > 0), 5, 3);
  std::printf("  %10.3f  %8.4f  %7.4f  %5.3f  %5.3f", mode.perplexity, mode.perplexity_ratio, mode.divergence,
              mode.top1_agreement, mode.keys);
  print_cell(if_any(mode.closed_mass, mode.closed_mass > 0), 5, 3);
  print_cell(mode.savings, 5, 3);
  print_cell(mode.jaccard, 7, 3);
  std::printf("  %11.2f  %11.2f", mode.selection_seconds, mode.attention_seconds);
  if (mode.perplexities.size() > 1) {
    const auto [least, most] = std::minmax_element(mode.perplexities.begin(), mode.perplexities.end());
    std::printf("   (mean of %zu seeds, perplexity %.3f to %.3f)", mode.perplexities.size(), *least, *most);
  }
  std::printf("\n");
}

inline void print_modes(const report& run) {
  std::printf(
      "\nKL, top-1: of the next token's distribution, beside dense's. keys: that are read, of dense's. mass: of the "
      "softmax, left\nto closed leaves. saved, Jaccard: Gram operations and overlap of the sets that this mode "
      "inherits.\n\n"
      "mode               tau    r/T  perplexity  to dense       KL  top-1   keys   mass  saved  Jaccard  selection s  "
      "attention s\n");
  for (const mode_result& mode : run.modes) print_mode(mode);
  if (!run.sweep.empty()) std::printf("\nother thresholds\n");
  for (const mode_result& mode : run.sweep) print_mode(mode);
}

}  // namespace engine
