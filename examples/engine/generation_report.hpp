#pragma once
// What modes of attention made of a prompt: as a table on stdout, and as report.json.

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "engine/attention_mode.hpp"
#include "engine/growing_attention.hpp"
#include "engine/needle.hpp"

namespace engine {

/// One mode's. Steps are the tokens after the first; medians, because a shared machine makes some of them slow.
struct generation {
  attention_mode                    mode;
  std::vector<index_t>              tokens         = {};
  double                            first_seconds  = 0;   // up to the first token
  std::vector<double>               step_seconds   = {};  // of each step
  std::vector<double>               step_attention = {};  // of these, in attention and selection
  growing_costs                     of_prompt = {}, of_steps = {};
  double                            agreement = 0, divergence = 0;  // from dense, fed what dense said; nats
  std::vector<std::vector<index_t>> to_needle = {};                 // what comes after the prompts of a needle test

  double tokens_per_second() const {
    return static_cast<double>(step_seconds.size()) / std::accumulate(step_seconds.begin(), step_seconds.end(), 0.0);
  }
  double milliseconds() const { return 1e3 * median(step_seconds); }
  double attention_milliseconds() const { return 1e3 * median(step_attention); }
  double bytes_per_token() const {
    return static_cast<double>(of_steps.bytes) / static_cast<double>(step_seconds.size());
  }
  double share_of_dense() const {
    return static_cast<double>(of_steps.bytes) / static_cast<double>(of_steps.dense_bytes);
  }

 private:
  static double median(std::vector<double> all) {
    const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
    std::nth_element(all.begin(), middle, all.end());
    return *middle;
  }
};

struct generation_report {
  std::size_t                prompt, tokens;
  index_t                    threads;
  std::optional<needle_test> needle;
  std::vector<generation>    modes = {};  // dense first

  /// At how many depths the needle's answer follows.
  int says_it(const generation& mode) const {
    return static_cast<int>(std::count_if(mode.to_needle.begin(), mode.to_needle.end(),
                                          [&](const auto& said) { return needle->says_it(said); }));
  }
  /// At how many the same follows as from dense.
  int as_dense(const generation& mode) const {
    int count = 0;
    for (std::size_t i = 0; i < mode.to_needle.size(); ++i)
      count += mode.to_needle[i] == modes.front().to_needle[i] ? 1 : 0;
    return count;
  }
};

inline nlohmann::json to_json(const generation_report& run) {
  using nlohmann::json;
  json out = {{"prompt_tokens", run.prompt}, {"tokens", run.tokens}, {"threads", run.threads}};
  for (const generation& mode : run.modes) {
    json one = {{"name", mode.mode.name},
                {"settings", settings_of(mode.mode)},
                {"seconds_to_first_token", mode.first_seconds},
                {"attention_seconds_to_first_token", mode.of_prompt.attention_seconds},
                {"selection_seconds_to_first_token", mode.of_prompt.selection_seconds},
                {"tokens_per_second", mode.tokens_per_second()},
                {"median_milliseconds_per_token", mode.milliseconds()},
                {"median_attention_milliseconds_per_token", mode.attention_milliseconds()},
                {"attention_seconds", mode.of_steps.attention_seconds},
                {"selection_seconds", mode.of_steps.selection_seconds},
                {"agreement_with_dense", mode.agreement},
                {"divergence_from_dense", mode.divergence},
                {"bytes_per_token", mode.bytes_per_token()},
                {"share_of_dense_bytes", mode.share_of_dense()},
                {"tokens", mode.tokens}};
    if (run.needle)
      one["needle"] = {{"says_it", run.says_it(mode)}, {"as_dense", run.as_dense(mode)}, {"tokens", mode.to_needle}};
    out["modes"].push_back(one);
  }
  if (!run.needle) return out;
  out["needle"] = {{"answer", run.needle->answer}, {"prompt_tokens", run.needle->longest_prompt()}};
  for (const needle_prompt& prompt : run.needle->prompts) out["needle"]["depths"].push_back(prompt.depth);
  return out;
}

inline void print_table(const generation_report& run) {
  std::printf(
      "\nA prompt of %zu tokens, %zu more. ms: medians of a token, and of its attention with selection. as dense: "
      "steps "
      "at which\nthe mode, fed dense's tokens, names the next one. KL: of its predictions there from dense's, nats. "
      "read: keys\nand values a token, in MB and of dense's.\n",
      run.prompt, run.tokens);
  if (run.needle) std::printf("needle: depths at which the word is found. same: at which all is said as by dense.\n");
  std::printf("\nmode      first token s  tokens/s  ms a token  attention ms  as dense      KL  read MB  read%s\n",
              run.needle ? "  needle   same" : "");
  for (const generation& mode : run.modes) {
    std::printf("%-9s %13.2f  %8.2f  %10.1f  %12.2f  %7.1f%%  %6.4f  %7.1f  %3.0f%%", mode.mode.name.c_str(),
                mode.first_seconds, mode.tokens_per_second(), mode.milliseconds(), mode.attention_milliseconds(),
                100 * mode.agreement, mode.divergence, mode.bytes_per_token() / 1e6, 100 * mode.share_of_dense());
    if (run.needle) {
      const auto of_all = [&](int count) {
        return std::to_string(count) + "/" + std::to_string(mode.to_needle.size());
      };
      std::printf("  %6s  %5s", of_all(run.says_it(mode)).c_str(), of_all(run.as_dense(mode)).c_str());
    }
    std::printf("\n");
  }
}

}  // namespace engine
