// Times of whole calls on a gfx942 at the shapes of model.py, bfloat16, one sequence: medians in microseconds. Each
// line is a JSON object, the first one the device. run_on_device.sh runs it; --device stops after the first line.
//
// Exit code: 77 without a gfx942.

#include "cascada/hip.hpp"  // first: clang's own headers want the macros of the runtime's

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "hip_rows.hpp"

using namespace cascada;
using namespace examples;

namespace {

constexpr int warm_calls = 3, timed_calls = 15;

struct model_shape {
  const char* name;
  index_t     width, heads;
};
constexpr model_shape models[] = {{"GPT-2", 768, 12}, {"GPT-J", 4096, 16}, {"OPT 6.7B", 4096, 32}};

template <class Call>
double microseconds(const hip_gfx942& where, Call call) {
  std::vector<double> times;
  for (int i = 0; i < warm_calls + timed_calls; ++i) {
    stopwatch watch(hip::stream_of(where));
    require(call(i), "a timed call");
    const double milliseconds = watch.stop();
    if (i >= warm_calls) times.push_back(1000 * milliseconds);
  }
  std::nth_element(times.begin(), times.begin() + timed_calls / 2, times.end());
  return times[timed_calls / 2];
}

void time_model(const hip_gfx942& where, const model_shape& model, index_t tokens) {
  const std::size_t size      = static_cast<std::size_t>(tokens) * static_cast<std::size_t>(model.width);
  mirrored<scalar>  layers[2] = {mirrored<scalar>(size), mirrored<scalar>(size)},
                   out(size);  // that a cascade alternates between
  for (unsigned l = 0; l < 2; ++l) make_layer(layers[l].host, tokens, model.width, l), layers[l].send(where);
  const auto x = [&](int i) {
    return matrix_view<const scalar>{layers[i % 2].device, tokens, model.width, model.width};
  };
  const auto heads_of = [&](auto* data) { return packed_heads(data, tokens, model.heads, model.width / model.heads); };
  const heads_view<const scalar> q = heads_of(static_cast<const scalar*>(layers[0].device));  // and keys, and values

  selector<scalar, hip_gfx942>  select({.threshold = 0.8f}, where);
  cascade<scalar, hip_gfx942>   exact({.threshold = 0.8f}, where);
  cascade<scalar, hip_gfx942>   paper({.threshold = 0.8f, .validate = validation::cross_gram}, where);
  attention<scalar, hip_gfx942> dense({.keys = key_set::all}, where);
  attention<scalar, hip_gfx942> near_and_far(
      {.window = 128, .chunk = 128, .leaves = leaf_formation::by_order, .open = opening::none}, where);
  attention<scalar, hip_gfx942> by_keys({.window = 128, .chunk = 128, .open = opening::none}, where);

  const double full  = microseconds(where, [&](int i) { return select(x(i)); });
  const double step  = microseconds(where, [&](int i) { return exact.step(x(i)); });
  const double cross = microseconds(where, [&](int i) { return paper.step(x(i)); });

  const hip::selection_layer kept = exact.kept();
  hip::downloaded_selection  downloaded;
  require(exact.download(downloaded), "download");
  const auto attend = [&](auto& with) {
    return microseconds(where, [&](int) { return with(q, strided_kv<scalar>{q, q}, kept, heads_of(out.device)); });
  };
  const double all = attend(dense), far = attend(near_and_far), far_by_keys = attend(by_keys);

  const std::int64_t before = std::int64_t{tokens - 1} * model.width;
  const auto last  = [&](auto* data) { return packed_heads(data + before, 1, model.heads, model.width / model.heads); };
  const double one = microseconds(where, [&](int) {
    return dense(last(static_cast<const scalar*>(layers[0].device)), strided_kv<scalar>{q, q}, kept, last(out.device));
  });
  std::printf(
      "{\"model\": \"%s\", \"tokens\": %d, \"representatives\": %d, \"full selection\": %.1f, \"cascade step\": %.1f, "
      "\"step of paper mode\": %.1f, \"dense attention\": %.1f, \"near + far\": %.1f, \"near + far by keys\": %.1f, "
      "\"dense decoding\": %.1f}\n",
      model.name, tokens, downloaded.report.representatives, full, step, cross, all, far, far_by_keys, one);
  std::fflush(stdout);
}

/// Prints the device, if it is a gfx942.
bool found() {
  int             devices = 0, driver = 0, runtime = 0, pageable = 0;
  hipDeviceProp_t properties;
  if (hipGetDeviceCount(&devices) != hipSuccess || devices == 0) return false;
  require(hipGetDeviceProperties(&properties, 0), "hipGetDeviceProperties");
  if (std::string(properties.gcnArchName).rfind("gfx942", 0) != 0) return false;
  require(hipDriverGetVersion(&driver), "hipDriverGetVersion");
  require(hipRuntimeGetVersion(&runtime), "hipRuntimeGetVersion");
  require(hipDeviceGetAttribute(&pageable, hipDeviceAttributePageableMemoryAccess, 0), "hipDeviceGetAttribute");
  std::printf(
      "{\"device\": \"%s\", \"architecture\": \"%s\", \"driver\": %d, \"runtime\": %d, \"headers\": %d, "
      "\"reads host memory\": %s}\n",
      properties.name, properties.gcnArchName, driver, runtime, HIP_VERSION, pageable ? "true" : "false");
  std::fflush(stdout);
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  if (!found()) return 77;
  if (count > 1 && std::strcmp(arguments[1], "--device") == 0) return 0;
  hipStream_t stream = nullptr;
  require(hipStreamCreate(&stream), "hipStreamCreate");
  for (const model_shape& model : models)
    for (index_t tokens = 1024; tokens <= 32768; tokens *= 2) time_model(hip_gfx942{stream}, model, tokens);
  require(hipStreamDestroy(stream), "hipStreamDestroy");
}
