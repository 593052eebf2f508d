// The cascade in forty lines: the rows of a few made-up layers, what each layer keeps, and what that cost.

#include <cstdio>
#include <random>
#include <vector>

#include "cascada/cascada.hpp"

namespace {

constexpr cascada::index_t tokens = 512, width = 64, topics = 40, layers = 6;

/// Tokens scatter around topics; from layer to layer every token drifts a little.
struct made_up_model {
  std::mt19937                    random{1};
  std::normal_distribution<float> normal{0, 1};
  std::vector<float>              rows = std::vector<float>(std::size_t{tokens} * width);

  made_up_model() {
    std::vector<float> centres(std::size_t{topics} * width);
    for (float& x : centres) x = normal(random);
    for (std::size_t i = 0; i < rows.size(); ++i)
      rows[i] = centres[(i / width * 7 % topics) * width + i % width] + 0.5f * normal(random);
  }

  void next_layer() {
    for (float& x : rows) x += 0.1f * normal(random);
  }
};

}  // namespace

int main() {
  made_up_model           model;
  cascada::cascade<float> cascade({.threshold = 0.8f});

  std::printf("layer  kept of %d  Jaccard  Gram operations saved\n", tokens);
  for (cascada::index_t layer = 0; layer < layers; ++layer, model.next_layer()) {
    const auto answer = cascade.step({model.rows.data(), tokens, width, width});
    if (answer != cascada::status::ok) {
      std::fprintf(stderr, "select_tokens: %s\n", cascada::message(answer));
      return 1;
    }
    const auto& report = cascade.report();
    std::printf("%5d  %11d  %7.3f  %20.1f%%\n", layer, cascade.kept().count(), report.jaccard.value_or(1.0),
                100 * report.savings());
  }
}
