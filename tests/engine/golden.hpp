#pragma once
// For tests of the example engine against golden hidden states: the engine's, and how far they are off.

#include <string>
#include <vector>

#include "catch.hpp"
#include "engine/attention_input.hpp"
#include "engine/error.hpp"
#include "engine/layer_attention.hpp"
#include "engine/safetensors.hpp"

namespace tests {

using engine::index_t, engine::matrix;

// 2^-24 for each of the few hundred roundings on the longest path, most of which cancel: 64 of them remain at most.
constexpr double tolerance = 64 * 0x1p-24;

inline matrix whole(const engine::safetensors& golden, const std::string& name) {
  const auto [rows, cols] = golden.shape(name);
  return golden.load(name, rows, cols);
}

inline std::vector<index_t> token_ids(const engine::safetensors& golden, const std::string& name = "tokens") {
  const matrix         ids = whole(golden, name);
  std::vector<index_t> out;
  for (index_t t = 0; t < engine::cols_of(ids); ++t) out.push_back(static_cast<index_t>(ids(0, t)));
  return out;
}

struct states {
  std::vector<matrix> entering;  // the residual stream, layer by layer
  matrix              final;
};

template <class Model>
states run_dense(const Model& model, const std::vector<index_t>& ids, cascada::attention_options options,
                 engine::backend where) {
  engine::layer_attention dense(options, where);
  states                  out;
  out.final = model.forward(ids, [&](const engine::attention_input& layer, matrix& attended) {
    out.entering.push_back(layer.residual);
    dense(layer, {}, attended);
  });
  return out;
}

inline double relative_error(const matrix& ours, const matrix& golden) {
  REQUIRE(ours.rows() == golden.rows());
  REQUIRE(ours.cols() == golden.cols());
  REQUIRE(ours.allFinite());
  return static_cast<double>((ours - golden).cwiseAbs().maxCoeff() / golden.cwiseAbs().maxCoeff());
}

/// Hidden states entering every layer and leaving the last.
inline void check_states(const states& ours, const engine::safetensors& golden) {
  index_t layers = 0;
  while (golden.contains("layer_0" + std::to_string(layers))) ++layers;
  REQUIRE(ours.entering.size() == static_cast<std::size_t>(layers));
  for (index_t l = 0; l < layers; ++l) {
    CAPTURE(l);
    const matrix expected = whole(golden, "layer_0" + std::to_string(l));
    CHECK(relative_error(ours.entering[static_cast<std::size_t>(l)], expected) <= tolerance);
  }
  CHECK(relative_error(ours.final, whole(golden, "final")) <= tolerance);
}

}  // namespace tests
