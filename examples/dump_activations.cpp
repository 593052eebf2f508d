// cascada-dump-activations: writes the residual stream entering some layers of a decoder, as BF16 safetensors.

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "engine/arguments.hpp"
#include "engine/decoder.hpp"
#include "engine/file.hpp"
#include "engine/layer_attention.hpp"
#include "engine/safetensors.hpp"

using namespace engine;

namespace {

constexpr const char* usage =
    R"(cascada-dump-activations --model DIR --tokens FILE --length N --layers A,B,... --output FILE

Runs the model with dense attention and writes tensors layer_00, layer_01, ... [N, hidden] for the layers named.
)";

int dump(int count, char** values) {
  const arguments given(count, values, {"--model", "--tokens", "--length", "--layers", "--output"});
  if (given.help()) {
    std::fputs(usage, stdout);
    return 0;
  }
  const auto    output = given.text("--output");
  const auto    wanted = given.integers("--layers");
  const auto    tokens = read_tokens(given.text("--tokens"), given.integer("--length", 0, 1));
  const decoder model(given.text("--model"));
  warn_of_unused(model.unused());
  require_writable(output);
  for (const int layer : wanted)
    if (layer < 0 || layer >= model.layers()) throw bad_input("the model has no layer " + std::to_string(layer));

  std::map<std::string, matrix> dumped;
  layer_attention               dense({.keys = cascada::key_set::all}, {});
  model.forward(tokens, [&](const attention_input& layer, matrix& out) {
    if (std::find(wanted.begin(), wanted.end(), layer.layer) != wanted.end()) {
      char name[24];
      std::snprintf(name, sizeof name, "layer_%02d", layer.layer);
      dumped.emplace(name, layer.residual);
    }
    dense(layer, {}, out);
  });
  write_safetensors_bf16(output, dumped);
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return run_program("cascada-dump-activations", [&] { return dump(count, values); });
}
