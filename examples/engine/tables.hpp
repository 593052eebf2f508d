#pragma once
// A run's numbers as tables on stdout.

#include <cmath>
#include <cstdio>

#include "engine/report.hpp"

namespace engine {

inline void print_layers(const report& run) {
  std::printf("\nThe cascade on the dense model's layers (T = %d, tau = %g; Gram operations in thousands, of %.0f)\n\n",
              run.tokens, static_cast<double>(run.threshold),
              static_cast<double>(cascada::full_gram_operations(run.tokens)) / 1e3);
  std::printf("                                        Gram operations, exact cascade       saved of T(T-1)/2\n");
  std::printf("layer    r   r/T   add remove Jaccard  inherit validate orphans   total    exact  paper  cross-Gram\n");
  for (std::size_t l = 0; l < run.layers.size(); ++l) {
    const auto& [exact, paper, full, same_set, same_rep] = run.layers[l];
    const auto thousands = [](std::int64_t operations) { return static_cast<double>(operations) / 1e3; };
    std::printf("%5zu %4d  %.2f", l, exact.representatives, static_cast<double>(exact.representatives) / exact.tokens);
    if (l == 0)
      std::printf("                                 full selection");
    else
      std::printf(" %5d  %5d   %.3f  %7.1f  %7.1f %7.1f", exact.additions, exact.removals, exact.jaccard.value_or(1.0),
                  thousands(exact.gram.inherited), thousands(exact.gram.validation), thousands(exact.gram.orphans));
    std::printf(" %7.1f   %5.1f%% %5.1f%%", thousands(exact.gram.total()), 100 * exact.savings(),
                100 * paper.savings());
    if (l > 0) std::printf("      %5.1f%%", 100 * paper.savings_cross_gram_only());
    std::printf("%s\n", same_set && same_rep ? "" : "  NOT THE SET OF FULL SELECTION");
  }
  const cascade_summary mean = summarise(run.layers);
  std::printf(
      " mean       %.2f                %.3f                                      %5.1f%% %5.1f%%      %5.1f%%\n",
      mean.share, mean.jaccard, 100 * mean.savings_exact, 100 * mean.savings_paper_mode,
      100 * mean.savings_cross_gram_only);
  std::printf("(means without layer 0)\n\n%s\n",
              sets_equal(run) ? "In every layer the cascade's set, exact and paper mode, equals that of full selection."
                              : "THE CASCADE'S SET DIFFERS FROM FULL SELECTION.");
}

inline void print_mode(const mode_result& mode) {
  std::printf("%-18s ", mode.name.c_str());
  if (mode.share > 0)
    std::printf("%4.2f  %.2f", static_cast<double>(mode.threshold), mode.share);
  else
    std::printf("   -     -");
  std::printf("  %10.3f  %9.4f   %.3f  %11.2f  %11.2f", mode.perplexity, mode.perplexity_ratio, mode.top1_agreement,
              mode.attention_seconds, mode.selection_seconds);
  if (mode.perplexities.size() > 1) {
    const auto [least, most] = std::minmax_element(mode.perplexities.begin(), mode.perplexities.end());
    std::printf("   (mean of %zu seeds, perplexity %.3f to %.3f)", mode.perplexities.size(), *least, *most);
  }
  std::printf("\n");
}

inline void print_modes(const report& run) {
  std::printf("\nmode                tau   r/T  perplexity   to dense   top-1  attention s  selection s\n");
  for (const mode_result& mode : run.modes) print_mode(mode);
  if (!run.sweep.empty()) std::printf("\nother thresholds\n");
  for (const mode_result& mode : run.sweep) print_mode(mode);
}

}  // namespace engine
