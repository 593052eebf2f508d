// Any bytes as a safetensors file: refused in a sentence, or all that it lists can be read.

#include "engine/safetensors.hpp"

#include "folder.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::folder folder;
  folder.put("model.safetensors", data, size);
  fuzz::refuses_or_reads([&] {
    const engine::safetensors file(folder.path() + "/model.safetensors");
    for (const std::string& name : file.names()) {
      fuzz::require(file.contains(name));
      fuzz::refuses_or_reads([&] {
        const auto [rows, cols] = file.shape(name);
        if (rows > 1000 || cols > 1000) return;
        const engine::matrix read = file.load(name, rows, cols);
        fuzz::require(read.rows() == rows && read.cols() == cols);
      });
    }
  });
  return 0;
}
