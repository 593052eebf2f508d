// cascada-dump-layers: what the comparisons read of a real model, as BF16 safetensors.

#include <algorithm>
#include <cstdio>
#include <map>

#include "bench/layer_names.hpp"
#include "engine/arguments.hpp"
#include "engine/decoder.hpp"
#include "engine/file.hpp"
#include "engine/layer_attention.hpp"
#include "engine/safetensors.hpp"

using namespace engine;

namespace {

constexpr const char* usage =
    R"(cascada-dump-layers --model DIR --tokens FILE --length N --heads A,B,... --output FILE

Runs the model with dense attention. Writes residual_00, residual_01, ... [N, hidden], the residual stream entering each
layer, and q_A, k_A, v_A [N, heads * head_dim], rotated, of the layers that --heads names.
)";

int dump(int count, char** values) {
  const arguments given(count, values, {"--model", "--tokens", "--length", "--heads", "--output"});
  if (given.help()) {
    std::fputs(usage, stdout);
    return 0;
  }
  const auto    with_heads = given.integers("--heads");
  const auto    tokens     = read_tokens(given.text("--tokens"), given.integer("--length", 0, 1));
  const decoder model(given.text("--model"));

  std::map<std::string, matrix> dumped;
  layer_attention               dense({.keys = cascada::key_set::all}, {});
  model.forward(tokens, [&](const attention_input& layer, matrix& out) {
    dumped.emplace(bench::numbered("residual", layer.layer), layer.residual);
    if (std::find(with_heads.begin(), with_heads.end(), layer.layer) != with_heads.end()) {
      dumped.emplace(bench::numbered("q", layer.layer), layer.queries);
      dumped.emplace(bench::numbered("k", layer.layer), layer.keys);
      dumped.emplace(bench::numbered("v", layer.layer), layer.values);
    }
    dense(layer, {}, out);
  });
  write_safetensors_bf16(given.text("--output"), dumped);
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return run_program("cascada-dump-layers", [&] { return dump(count, values); });
}
