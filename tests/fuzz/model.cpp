// Any bytes as config.json beside a model's weights, or as the index of its shards: refused in a sentence, or a model
// that runs. In the environment: FUZZ_MODEL, the folder of a small one; FUZZ_FILE, the name of the file that the bytes
// replace.

#include <cstdlib>
#include <string>
#include <vector>

#include "engine/decoder.hpp"
#include "folder.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::folder& folder = []() -> const fuzz::folder& {
    static const fuzz::folder copied;
    fuzz::require(std::getenv("FUZZ_MODEL") != nullptr && std::getenv("FUZZ_FILE") != nullptr);
    copied.copy(std::getenv("FUZZ_MODEL"));
    return copied;
  }();
  folder.put(std::getenv("FUZZ_FILE"), data, size);
  fuzz::refuses_or_reads([&] {
    const engine::decoder              model(folder.path());
    const std::vector<engine::index_t> tokens = {1, 0, 3};
    const engine::matrix               hidden =
        model.forward(tokens, [](const engine::attention_input&, engine::matrix& out) { out.setZero(); });
    fuzz::require(hidden.rows() == 3);
  });
  return 0;
}
