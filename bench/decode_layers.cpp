// cascada-decode-layers: steps of decoding over the rows of a model's layers, dense and near + far in turn.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bench/bytes_read.hpp"
#include "bench/layer_names.hpp"
#include "cascada/cascada.hpp"
#include "cascada/eigen.hpp"
#include "engine/arguments.hpp"
#include "engine/error.hpp"
#include "engine/safetensors.hpp"

using namespace cascada;

namespace {

constexpr const char* usage =
    R"(cascada-decode-layers --layers FILE [--tokens T] [--head-dim N] [--steps N]

FILE is what cascada-dump-layers wrote; bench/run.sh leaves one, build/bench/layers-16384.safetensors. Of its first T
tokens (4096) the last 256 are decoded, one at a time, on one thread: dense; by the preset balanced in the clusters of
the cascade, with means of leaves as they are multiplied, in bfloat16, and as bytes; and in clusters of each KV head's own keys
(threshold 0.7, leaves by order, window 256, open_above 0.004). All go on from the same tokens, in turn, N steps each
(300), and read 64 MB of other memory between steps, as an engine reads its weights. Selecting a chunk's tokens is part
of the step that needs them. Prints the median of a layer's step, what dense takes of it and of the mean, how much of
the mean is selection, the longest step, the bytes that a step reads, of dense's, and those that a state takes, of the
keys and values. --head-dim: columns of a head (64).
)";

using serial                = cpu<compiled_isa, serial_executor>;
constexpr index_t to_decode = 256;

/// One layer's rows [tokens, heads * head_dim], the residual stream that enters it, and the representatives that its
/// tokens have in the layer before.
template <row_scalar Scalar>
struct layer {
  std::vector<Scalar>  q, k, v;
  index_t              heads, kv_heads, dim, tokens;
  engine::matrix       residual;
  std::vector<index_t> below;

  heads_view<const Scalar> queries(index_t begin, index_t end) const {
    return packed_heads(q.data() + std::int64_t{begin} * heads * dim, end - begin, heads, dim);
  }
  strided_kv<Scalar> kv(index_t end) const {
    return {packed_heads(k.data(), end, kv_heads, dim), packed_heads(v.data(), end, kv_heads, dim)};
  }
};

template <row_scalar Scalar>
std::vector<Scalar> first_rows(const engine::matrix& all, index_t tokens) {
  std::vector<Scalar> rows;
  for (index_t t = 0; t < tokens; ++t)
    for (index_t c = 0; c < engine::cols_of(all); ++c) rows.push_back(from_float<Scalar>(all(t, c)));
  return rows;
}

template <row_scalar Scalar>
std::vector<layer<Scalar>> read_layers(const engine::safetensors& file, index_t tokens, index_t dim) {
  cascade<float>             walk(presets::balanced.selection);
  std::vector<index_t>       below;
  std::vector<layer<Scalar>> layers;
  const auto                 load = [&](const std::string& name) {
    const auto [rows, cols] = file.shape(name);
    if (rows < tokens) throw engine::bad_input("--tokens: the file has " + std::to_string(rows));
    return file.load(name, rows, cols);
  };
  for (int l = 0; file.contains(bench::numbered("residual", l)); ++l) {
    engine::matrix x = load(bench::numbered("residual", l)).topRows(tokens);
    below.assign(walk.kept().rep.begin(), walk.kept().rep.end());
    engine::require_ok(walk.step(view(x)), "cascade");
    if (!file.contains(bench::numbered("q", l))) continue;
    const engine::matrix q = load(bench::numbered("q", l)), k = load(bench::numbered("k", l)),
                         v = load(bench::numbered("v", l));
    if (engine::cols_of(q) % dim != 0 || engine::cols_of(k) % dim != 0 || v.cols() != k.cols())
      throw engine::bad_input("--head-dim: the rows of q, k and v are not of whole heads");
    layers.push_back({first_rows<Scalar>(q, tokens), first_rows<Scalar>(k, tokens), first_rows<Scalar>(v, tokens),
                      engine::cols_of(q) / dim, engine::cols_of(k) / dim, dim, tokens, std::move(x), below});
  }
  if (layers.empty()) throw engine::bad_input("--layers: no layer's q, k and v are in the file");
  return layers;
}

/// What a way to decode selects on.
enum class features { none, residual, keys };

/// What one layer of a sequence holds: representatives of the residual stream, or of each KV head's keys.
template <row_scalar Scalar>
struct layer_state {
  std::vector<growing_selection<float, serial>>  of_residual;
  std::vector<growing_selection<Scalar, serial>> of_keys;
  attention_state<Scalar, serial>                attention;

  layer_state(features on, const selection_options& options, index_t kv_heads) {
    if (on == features::residual) of_residual.emplace_back(options);
    for (index_t h = 0; on == features::keys && h < kv_heads; ++h) of_keys.emplace_back(options);
  }

  std::vector<representatives> kept() const {
    std::vector<representatives> all;
    for (const auto& one : of_residual) all.push_back(one.kept());
    for (const auto& one : of_keys) all.push_back(one.kept());
    return all;
  }

  /// Selects up to token `end`.
  void select(const layer<Scalar>& of, index_t end) {
    for (auto& one : of_residual) {
      const index_t before = one.kept().tokens();
      const auto    below  = std::span(of.below).subspan(of.below.empty() ? 0 : static_cast<std::size_t>(before));
      const auto    rows   = of.residual.middleRows(before, end - before);
      engine::require_ok(
          one.extend(view(rows), below.first(of.below.empty() ? 0 : static_cast<std::size_t>(end - before))),
          "selection");
    }
    for (std::size_t h = 0; h < of_keys.size(); ++h) {
      const index_t before = of_keys[h].kept().tokens(), stride = of.kv_heads * of.dim;
      const Scalar* rows = of.k.data() + std::int64_t{before} * stride + static_cast<std::int64_t>(h) * of.dim;
      engine::require_ok(of_keys[h].extend({rows, end - before, of.dim, stride}), "selection");
    }
  }
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// One way to decode: a state for each layer, and the time of its steps.
template <row_scalar Scalar>
struct way {
  way(const char* called, features on, const selection_options& chosen, const attention_options& with)
      : name(called), selects_on(on), selection(chosen), options(with), attend(with) {}

  const char*                      name;
  features                         selects_on;
  selection_options                selection;
  attention_options                options;
  attention<Scalar, serial>        attend;
  std::vector<layer_state<Scalar>> states, begun;
  std::vector<double>              seconds;
  double                           bytes = 0, selecting = 0;

  void extend(const layer<Scalar>& of, std::size_t l, index_t begin, index_t end, std::vector<Scalar>& out) {
    if (selects_on != features::none && (begin == 0 || begin % options.chunk == 0)) {
      const auto before = std::chrono::steady_clock::now();
      states[l].select(of, begin == 0 ? end : begin);
      selecting += seconds_since(before);
    }
    const std::vector<representatives> kept = states[l].kept();
    out.resize(static_cast<std::size_t>(end - begin) * static_cast<std::size_t>(of.heads * of.dim));
    engine::require_ok(attend.extend(states[l].attention, of.queries(begin, end), of.kv(of.tokens), kept,
                                     packed_heads(out.data(), end - begin, of.heads, of.dim)),
                       "attention");
  }
};

template <row_scalar Scalar>
void measure(const char* rows, const engine::safetensors& file, index_t tokens, index_t dim, int steps) {
  const auto               layers = read_layers<Scalar>(file, tokens, dim);
  std::vector<way<Scalar>> ways;
  const selection_options  coarse = presets::balanced.selection, fine = {.threshold = 0.7f};
  ways.emplace_back("dense", features::none, coarse, attention_options{.keys = key_set::all});
  for (const auto& [kept, called, called_keys] :
       {std::tuple(summary_type::as_multiplied, "near + far", "near + far of keys"),
        std::tuple(summary_type::bfloat16, "near + far, rounded", "near + far of keys, rounded"),
        std::tuple(summary_type::bytes, "near + far, bytes", "near + far of keys, bytes")}) {
    if (kept == summary_type::bfloat16 && !std::same_as<kernel::operand_of<Scalar, serial>, float>) continue;
    attention_options by_keys  = presets::balanced.attention;
    attention_options by_order = {.window = 256, .leaves = leaf_formation::by_order, .open_above = 0.004f};
    by_keys.summaries = by_order.summaries = kept;
    ways.emplace_back(called, features::residual, coarse, by_keys);
    ways.emplace_back(called_keys, features::keys, fine, by_order);
  }

  std::vector<Scalar> out;
  const index_t       begin = tokens - to_decode;
  for (way<Scalar>& one : ways) {
    for (std::size_t l = 0; l < layers.size(); ++l) {
      one.states.emplace_back(one.selects_on, one.selection, layers[l].kv_heads);
      one.states.back().attention.reserve(tokens);
      one.extend(layers[l], l, 0, begin, out);
    }
    one.begun     = one.states;
    one.selecting = 0;
  }

  std::vector<float> others(std::size_t{16} << 20, 1.0f);
  for (int step = 0; step < steps; ++step)
    for (way<Scalar>& one : ways) {
      const index_t t = begin + step % to_decode;
      if (t == begin) one.states = one.begun;  // truncating would leave all leaves to the next step
      volatile float sum = 0;
      for (std::size_t i = 0; i < others.size(); i += 16) sum = sum + others[i];
      const auto before = std::chrono::steady_clock::now();
      double     bytes  = 0;
      for (std::size_t l = 0; l < layers.size(); ++l) {
        one.extend(layers[l], l, t, t + 1, out);
        bytes += one.options.keys == key_set::all
                     ? 1.0
                     : bench::share_of_bytes<Scalar, serial>(one.attend.report(), one.options, dim);
      }
      one.seconds.push_back(seconds_since(before));
      one.bytes += bytes / static_cast<double>(layers.size()) / steps;
    }

  const auto median = [](std::vector<double> all) {
    std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2), all.end());
    return all[all.size() / 2];
  };
  const auto mean = [](const std::vector<double>& all) {
    return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
  };
  const auto share_of_cache = [&](const way<Scalar>& one) {
    double states = 0, cache = 0;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      states += static_cast<double>(one.states[l].attention.bytes());
      cache += 2.0 * static_cast<double>(one.states[l].attention.tokens()) * layers[l].kv_heads * dim * sizeof(Scalar);
    }
    return states / cache;
  };
  const auto a_layer               = [&](double seconds) { return 1e6 * seconds / static_cast<double>(layers.size()); };
  const std::vector<double>& dense = ways[0].seconds;
  for (const way<Scalar>& one : ways)
    std::printf(
        "%-9s %-28s %7.1f us   dense takes %5.2f of it (of the mean: %5.2f)   selection %4.1f %%   longest %6.1f us   "
        "bytes %.2f of dense's   state %.2f\n",
        rows, one.name, a_layer(median(one.seconds)), median(dense) / median(one.seconds),
        mean(dense) / mean(one.seconds), 100 * one.selecting / (mean(one.seconds) * steps),
        a_layer(*std::max_element(one.seconds.begin(), one.seconds.end())), one.bytes, share_of_cache(one));
}

int run(int count, char** values) {
  const engine::arguments given(count, values, {"--layers", "--tokens", "--head-dim", "--steps"});
  if (given.help()) {
    std::fputs(usage, stdout);
    return 0;
  }
  const engine::safetensors file(given.text("--layers"));
  const index_t             tokens = given.integer("--tokens", 4096, to_decode + 1);
  const index_t             dim    = given.integer("--head-dim", 64, 1);
  const int                 steps  = given.integer("--steps", 300, 1);
  measure<float>("float", file, tokens, dim, steps);
  measure<bfloat16>("bfloat16", file, tokens, dim, steps);
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return engine::run_program("cascada-decode-layers", [&] { return run(count, values); });
}
