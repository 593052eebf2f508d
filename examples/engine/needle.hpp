#pragma once
// Prompts that hide a sentence at several depths and end where it has to be remembered.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/error.hpp"
#include "engine/file.hpp"
#include "engine/matrix.hpp"

namespace engine {

struct needle_prompt {
  double               depth;  // of the sentence: 0 at the beginning, 1 at the end
  std::vector<index_t> tokens;
};

struct needle_test {
  static constexpr std::size_t shortest = 8;  // continuation

  std::vector<index_t>       answer;
  std::vector<needle_prompt> prompts;

  /// {"answer": [ids], "prompts": [{"depth": X, "tokens": [ids]}, ..]}
  static needle_test read(const std::string& path) {
    const auto  file = read_json(path);
    needle_test test;
    try {
      test.answer = file.at("answer").get<std::vector<index_t>>();
      for (const auto& prompt : file.at("prompts"))
        test.prompts.push_back({prompt.at("depth").get<double>(), prompt.at("tokens").get<std::vector<index_t>>()});
    } catch (const nlohmann::json::exception&) {
      throw bad_input(path + " is no needle test: it needs answer, and prompts with depth and tokens");
    }
    const auto empty = [](const needle_prompt& prompt) { return prompt.tokens.empty(); };
    if (test.answer.empty() || test.prompts.empty() || std::any_of(test.prompts.begin(), test.prompts.end(), empty))
      throw bad_input(path + " is no needle test: something in it is empty");
    return test;
  }

  /// Tokens that follow each prompt.
  std::size_t length() const { return std::max(answer.size(), shortest); }

  std::size_t longest_prompt() const {
    std::size_t most = 0;
    for (const needle_prompt& prompt : prompts) most = std::max(most, prompt.tokens.size());
    return most;
  }

  /// Whether a continuation begins with the answer.
  bool says_it(const std::vector<index_t>& continuation) const {
    return continuation.size() >= answer.size() && std::equal(answer.begin(), answer.end(), continuation.begin());
  }
};

}  // namespace engine
