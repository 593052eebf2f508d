#include "engine/mlp.hpp"

#include <cmath>
#include <string>

#include "engine/error.hpp"

namespace engine {
namespace {

/// In place on an Eigen array.
template <class Rows>
void apply(activation function, Rows&& x) {
  switch (function) {
    case activation::relu: x = x.max(0.0f); break;
    case activation::gelu:  // x / 2 (1 + erf(x / sqrt(2))) (arXiv:1606.08415)
      x = x.unaryExpr([](float a) { return 0.5f * a * (1 + std::erf(0.707106781f * a)); });
      break;
    case activation::gelu_tanh:  // the approximation that GPT-2 was trained with (arXiv:1606.08415)
      x = 0.5f * x * (1 + (0.797884561f * (x + 0.044715f * x.cube())).tanh());
      break;
    case activation::silu: x = x / (1 + (-x).exp()); break;
  }
}

}  // namespace

activation read_activation(const config& file, const std::string& key, const std::string& otherwise) {
  const auto name = file.get<std::string>(key, otherwise);
  if (name == "relu") return activation::relu;
  if (name == "gelu") return activation::gelu;
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") return activation::gelu_tanh;
  if (name == "silu" || name == "swish") return activation::silu;
  throw bad_input(file.path() + ": " + key + " is " + name +
                  "; there are relu, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, silu and swish");
}

void gated_mlp::operator()(const matrix& x, matrix& y, const backend& where) const {
  matrix gated, raised;
  linear(x, gate, gated, where);
  linear(x, up, raised, where);
  for_pieces(rows_of(x), 32, where, [&](index_t begin, index_t count) {
    apply(function, gated.middleRows(begin, count).array());
    gated.middleRows(begin, count).array() *= raised.middleRows(begin, count).array();
  });
  linear(gated, down, y, where);
}

void plain_mlp::operator()(const matrix& x, matrix& y, const backend& where) const {
  matrix raised;
  raise(x, raised, where);
  for_pieces(rows_of(x), 32, where,
             [&](index_t begin, index_t count) { apply(function, raised.middleRows(begin, count).array()); });
  lower(raised, y, where);
}

}  // namespace engine
