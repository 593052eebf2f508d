#pragma once
// Reading and writing safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes.

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/error.hpp"
#include "engine/file.hpp"
#include "engine/mapped_file.hpp"
#include "engine/matrix.hpp"
#include "engine/stored_matrix.hpp"

namespace engine {

/// One safetensors file, little-endian, mapped. The header is checked whole, and against the size of the file, when it
/// is opened.
class safetensors {
 public:
  explicit safetensors(const std::string& path) : path_(path), file_(std::make_shared<const mapped_file>(path)) {
    std::uint64_t header_bytes = 0;
    if (file_->size() >= sizeof header_bytes) std::memcpy(&header_bytes, file_->data(), sizeof header_bytes);
    if (file_->size() < sizeof header_bytes || header_bytes > file_->size() - sizeof header_bytes)
      throw bad_input(path + " is truncated or no safetensors file: its header does not fit into it");
    data_begin_ = sizeof header_bytes + header_bytes;
    read_header({reinterpret_cast<const char*>(file_->data()) + sizeof header_bytes, header_bytes});
  }

  bool contains(const std::string& name) const { return tensors_.count(name) != 0; }

  /// Names of all tensors, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : tensors_) out.push_back(entry.first);
    return out;
  }

  /// A tensor, [rows, cols] (a vector has one row), on the bytes of the file. F32, F16 and BF16 can be read.
  stored_matrix map(const std::string& name, index_t rows, index_t cols) const {
    const stored_tensor& found = find(name, rows, cols);
    return {file_->data() + data_begin_ + found.begin, type_of(name, found), rows, cols, file_};
  }

  /// The same as float, which is exact.
  matrix load(const std::string& name, index_t rows, index_t cols) const {
    matrix out;
    map(name, rows, cols).read_block(0, 0, rows, cols, out);
    return out;
  }

  /// Sizes of a two-dimensional tensor.
  std::pair<index_t, index_t> shape(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end() || found->second.shape.size() != 2)
      throw bad_input(path_ + " has no two-dimensional tensor " + name);
    return {static_cast<index_t>(found->second.shape[0]), static_cast<index_t>(found->second.shape[1])};
  }

 private:
  struct stored_tensor {
    std::string               type;
    std::vector<std::int64_t> shape;
    std::uint64_t             begin = 0, end = 0;  // bytes after the header
  };

  static std::uint64_t bytes_of(const std::string& type) {
    if (type == "F64" || type == "I64" || type == "U64") return 8;
    if (type == "F32" || type == "I32" || type == "U32") return 4;
    if (type == "F16" || type == "BF16" || type == "I16" || type == "U16") return 2;
    return 1;
  }

  stored_type type_of(const std::string& name, const stored_tensor& found) const {
    if (found.type == "F32") return stored_type::f32;
    if (found.type == "F16") return stored_type::f16;
    if (found.type == "BF16") return stored_type::bf16;
    throw bad_input("tensor " + name + " in " + path_ + " is " + found.type + "; F32, F16 and BF16 can be read");
  }

  void read_header(std::string_view text) {
    const std::uint64_t data_bytes = file_->size() - data_begin_;
    const auto          header     = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!header.is_object()) throw bad_input(path_ + " is no safetensors file: its header is not JSON");
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") continue;
      stored_tensor found;
      try {
        found.type       = entry.at("dtype").get<std::string>();
        found.shape      = entry.at("shape").get<std::vector<std::int64_t>>();
        const auto range = entry.at("data_offsets").get<std::array<std::uint64_t, 2>>();
        found.begin = range[0], found.end = range[1];
      } catch (const nlohmann::json::exception&) {
        throw bad_input("the entry of tensor " + name + " in " + path_ + " is malformed");
      }
      if (found.end > data_bytes)
        throw bad_input(path_ + " is truncated: tensor " + name + " ends behind the end of the file");
      std::uint64_t expected = bytes_of(found.type);
      for (const std::int64_t size : found.shape)
        if (size < 0 || __builtin_mul_overflow(expected, static_cast<std::uint64_t>(size), &expected))
          throw bad_input("the shape of tensor " + name + " in " + path_ + " is impossible");
      if (found.begin > found.end || found.end - found.begin != expected)
        throw bad_input("the bytes of tensor " + name + " in " + path_ + " do not fit its shape");
      tensors_.emplace(name, std::move(found));
    }
  }

  const stored_tensor& find(const std::string& name, index_t rows, index_t cols) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw bad_input(path_ + " has no tensor " + name);
    const auto& shape = found->second.shape;
    const bool  fits =
        shape.size() == 2 ? shape[0] == rows && shape[1] == cols : shape.size() == 1 && rows == 1 && shape[0] == cols;
    if (!fits) throw bad_input("tensor " + name + " in " + path_ + " has another shape than config.json says");
    return found->second;
  }

  std::string                          path_;
  std::shared_ptr<const mapped_file>   file_;
  std::uint64_t                        data_begin_ = 0;
  std::map<std::string, stored_tensor> tensors_;
};

/// Writes matrices as BF16, rounded to nearest. The file appears whole or not at all.
inline void write_safetensors_bf16(const std::string& path, const std::map<std::string, matrix>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string    data;
  for (const auto& [name, x] : tensors) {
    const Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rounded =
        x.cast<Eigen::bfloat16>();
    const auto begin = data.size();
    data.append(reinterpret_cast<const char*>(rounded.data()), static_cast<std::size_t>(rounded.size()) * 2);
    header[name] = {{"dtype", "BF16"}, {"shape", {x.rows(), x.cols()}}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size();
  write_file(path, std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data);
}

}  // namespace engine
