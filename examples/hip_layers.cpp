// Layers of cascade and attention on one HIP stream, checked against the CPU. What an owner of an MI300X runs first:
//
//   clang++ -x hip --offload-arch=gfx942 -nogpulib -nogpuinc -std=c++20 -O3 -D__HIP_PLATFORM_AMD__
//     -DEIGEN_NO_HIP -Iinclude -I/usr/include/eigen3 examples/hip_layers.cpp -lamdhip64 -o hip_layers && ./hip_layers
//     [tokens] [width] [layers]
//
// Exit code: 0 all sets equal the CPU's and the outputs of all modes are close, 1 some are not, 77 there is no GPU.

#include "cascada/hip.hpp"  // first: clang's own headers want the macros of the runtime's

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <vector>

#include "cascada/cascada.hpp"
#include "hip_rows.hpp"

using namespace cascada;
using namespace examples;

namespace {

constexpr index_t head_dim = 128;

bool same(const hip::downloaded_selection& got, const representatives& want) {
  return std::equal(got.indices.begin(), got.indices.end(), want.indices.begin(), want.indices.end()) &&
         std::equal(got.rep.begin(), got.rep.end(), want.rep.begin(), want.rep.end()) &&
         std::equal(got.counts.begin(), got.counts.end(), want.counts.begin(), want.counts.end());
}

struct attention_mode {
  const char*       name;
  attention_options options;
};

const attention_mode modes[] = {
    {"dense", {.keys = key_set::all}},
    {"window", {.keys = key_set::near}},
    {"near + far", {.leaves = leaf_formation::by_order, .open = opening::none}},
    {"near + far by keys", {.open = opening::none}},
    {"grouped", {.queries = query_set::grouped, .leaves = leaf_formation::by_order, .open = opening::none}},
    {"r x r", {.keys = key_set::representatives, .queries = query_set::representatives}},
    {"weighted r x r", {.keys = key_set::representatives, .queries = query_set::representatives, .weighted = true}},
};

/// Whether all are close to what is wanted; NaN is not.
bool all_close(const std::vector<float>& got, const std::vector<float>& want, double& worst) {
  bool close = true;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    close              = close && error < 0.05;
    worst              = error <= worst || worst != worst ? worst : error;  // a NaN stays
  }
  return close;
}

}  // namespace

int main(int count, char** arguments) {
  int devices = 0;
  if (hipGetDeviceCount(&devices) != hipSuccess || devices == 0) {
    std::puts("no GPU");
    return 77;
  }
  const index_t tokens = count > 1 ? std::atoi(arguments[1]) : 2048, width = count > 2 ? std::atoi(arguments[2]) : 1024;
  const int     layers = count > 3 ? std::atoi(arguments[3]) : 4;
  const index_t heads  = width / head_dim;
  if (tokens < 1 || heads < 1 || width % head_dim != 0) {
    std::fprintf(stderr, "the width has to be a multiple of %d\n", head_dim);
    return 1;
  }

  hipStream_t stream = nullptr;
  require(hipStreamCreate(&stream), "hipStreamCreate");
  const hip_gfx942  where{stream};
  bool              good = true;
  const std::size_t size = static_cast<std::size_t>(tokens) * static_cast<std::size_t>(width);
  {
    mirrored<scalar> x(size);
    mirrored<float>  out(size);

    cascade<scalar, hip_gfx942>                walk({}, where);
    cascade<scalar>                            walk_on_cpu;
    std::vector<attention<scalar, hip_gfx942>> attend;
    std::vector<attention<scalar>>             attend_on_cpu;
    std::vector<float>                         expected(size);
    hip::downloaded_selection                  kept;
    for (const auto& mode : modes) attend.emplace_back(mode.options, where), attend_on_cpu.emplace_back(mode.options);
    for (int layer = 0; layer < layers; ++layer) {
      make_layer(x.host, tokens, width, static_cast<unsigned>(layer));
      x.send(where);
      // The rows serve as queries, keys and values too: this program is about kernels, not about a model.
      const auto                     heads_of = [&](auto* data) { return packed_heads(data, tokens, heads, head_dim); };
      const heads_view<const scalar> q        = heads_of(static_cast<const scalar*>(x.device));
      const heads_view<const scalar> h        = heads_of(static_cast<const scalar*>(x.host.data()));

      stopwatch    selecting(stream);
      const status step           = walk.step({x.device, tokens, width, width});
      const double selection_time = selecting.stop();
      require(step, "cascade");
      require(walk.download(kept), "download");
      require(walk_on_cpu.step({x.host.data(), tokens, width, width}), "cascade on the CPU");
      const representatives want  = walk_on_cpu.kept();
      const bool            equal = same(kept, want) && kept.report.gram == walk_on_cpu.report().gram;
      good                        = good && equal;
      std::printf("layer %d: r %d, %lld Gram operations, %.3f ms, %s\n", layer, kept.report.representatives,
                  static_cast<long long>(kept.report.gram.total()), selection_time,
                  equal ? "the CPU's set" : "ANOTHER SET");

      for (std::size_t m = 0; m < std::size(modes); ++m) {
        out.spoil(where);
        stopwatch    attending(stream);
        const status attended = attend[m](q, strided_kv<scalar>{q, q}, walk.kept(), heads_of(out.device));
        const double time     = attending.stop();
        require(attended, modes[m].name);
        out.fetch(where);
        require(attend_on_cpu[m](h, strided_kv<scalar>{h, h}, want, heads_of(expected.data())), "attention on the CPU");
        double     worst = 0;
        const bool close = all_close(out.host, expected, worst);
        good             = good && close;
        std::printf("  %-15s %10.3f ms  largest error %.2e%s\n", modes[m].name, time, worst,
                    close ? "" : "  NOT CLOSE");
      }
    }
  }
  require(hipStreamDestroy(stream), "hipStreamDestroy");
  std::puts(good ? "equal to the CPU" : "NOT equal to the CPU");
  return good ? 0 : 1;
}
