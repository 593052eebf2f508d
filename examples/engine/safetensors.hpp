#pragma once
// Reading and writing safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
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

/// One safetensors file, little-endian, mapped. When it is opened, the header is checked whole, and against the size of
/// the file: every byte belongs to one tensor. Types that cannot be read matter only to whoever reads such a tensor.
class safetensors {
 public:
  explicit safetensors(const std::string& path) : path_(path), file_(std::make_shared<const mapped_file>(path)) {
    std::uint64_t header_bytes = 0;
    if (file_->size() >= sizeof header_bytes) std::memcpy(&header_bytes, file_->data(), sizeof header_bytes);
    if (file_->size() < sizeof header_bytes || header_bytes > file_->size() - sizeof header_bytes)
      throw bad_input(path + " is truncated or no safetensors file: its header does not fit into it");
    data_begin_ = sizeof header_bytes + header_bytes;
    read_header(file_->text().substr(sizeof header_bytes, header_bytes));
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
    for (const std::uint64_t size : found->second.shape)
      if (size > std::numeric_limits<index_t>::max())
        throw bad_input("tensor " + name + " in " + path_ + " is too large");
    return {static_cast<index_t>(found->second.shape[0]), static_cast<index_t>(found->second.shape[1])};
  }

 private:
  struct stored_tensor {
    std::string                type;
    std::vector<std::uint64_t> shape;
    std::uint64_t              begin = 0, end = 0;  // bytes after the header
  };

  /// Bits of a value of the format's types; 0 of a type that is newer than this list.
  static std::uint64_t bits_of(const std::string& type) {
    static const std::map<std::string, std::uint64_t> bits = {
        {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"U8", 8},   {"I8", 8},
        {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},     {"F8_E4M3FNUZ", 8}, {"I16", 16}, {"U16", 16},
        {"F16", 16},    {"BF16", 16},   {"F8_E5M2FNUZ", 8}, {"I32", 32},        {"U32", 32}, {"F32", 32},
        {"C64", 64},    {"F64", 64},    {"I64", 64},        {"U64", 64},
    };
    const auto found = bits.find(type);
    return found == bits.end() ? 0 : found->second;
  }

  stored_type type_of(const std::string& name, const stored_tensor& found) const {
    if (found.type == "F32") return stored_type::f32;
    if (found.type == "F16") return stored_type::f16;
    if (found.type == "BF16") return stored_type::bf16;
    throw bad_input("tensor " + name + " in " + path_ + " is " + found.type + "; F32, F16 and BF16 can be read");
  }

  void read_header(std::string_view text) {
    const auto header = parse_json(text, "the header of " + path_);
    for (const auto& [name, entry] : header.items())
      if (name != "__metadata__") tensors_.emplace(name, read_entry(name, entry));
    check_places();
  }

  /// Checks types strictly: conversions of nlohmann::json would take 1.5, 1e300 and true for sizes.
  stored_tensor read_entry(const std::string& name, const nlohmann::json& entry) const {
    const std::string of_tensor = " of tensor " + name + " in " + path_;
    const auto        member    = [&](const char* key) -> const nlohmann::json& {
      if (!entry.is_object() || !entry.contains(key)) throw bad_input("the entry" + of_tensor + " has no " + key);
      return entry.at(key);
    };
    const nlohmann::json &type = member("dtype"), &shape = member("shape"), &range = member("data_offsets");
    const auto            is_size = [](const nlohmann::json& value) { return value.is_number_unsigned(); };
    if (!type.is_string()) throw bad_input("the type" + of_tensor + " is no name");
    if (!shape.is_array() || !std::all_of(shape.begin(), shape.end(), is_size))
      throw bad_input("the shape" + of_tensor + " is no list of sizes");
    if (!range.is_array() || range.size() != 2 || !std::all_of(range.begin(), range.end(), is_size))
      throw bad_input("the offsets" + of_tensor + " are not two sizes");

    stored_tensor out{type.get<std::string>(), shape.get<std::vector<std::uint64_t>>(), range[0].get<std::uint64_t>(),
                      range[1].get<std::uint64_t>()};
    if (out.end > data_bytes())
      throw bad_input(path_ + " is truncated: tensor " + name + " ends behind the end of the file");
    if (out.begin > out.end) throw bad_input("the bytes" + of_tensor + " end before they begin");
    std::uint64_t bits = bits_of(out.type);
    for (const std::uint64_t size : out.shape)
      if (__builtin_mul_overflow(bits, size, &bits)) throw bad_input("the shape" + of_tensor + " is impossible");
    if (bits_of(out.type) != 0 && (bits % 8 != 0 || out.end - out.begin != bits / 8))
      throw bad_input("the bytes" + of_tensor + " do not fit its shape");
    return out;
  }

  /// The format wants every byte to belong to one tensor: no byte to two, none to nobody.
  void check_places() const {
    std::vector<const std::pair<const std::string, stored_tensor>*> in_order;
    for (const auto& entry : tensors_) in_order.push_back(&entry);
    const auto place = [](const auto* entry) { return std::pair(entry->second.begin, entry->second.end); };
    std::sort(in_order.begin(), in_order.end(), [&](const auto* a, const auto* b) { return place(a) < place(b); });
    std::uint64_t end = 0;
    for (const auto* entry : in_order) {
      if (entry->second.begin < end) throw bad_input("tensor " + entry->first + " in " + path_ + " overlaps another");
      if (entry->second.begin > end)
        throw bad_input(path_ + " has bytes before tensor " + entry->first + " that belong to no tensor");
      end = entry->second.end;
    }
    if (end < data_bytes()) throw bad_input(path_ + " has bytes behind its last tensor");
  }

  std::uint64_t data_bytes() const { return file_->size() - data_begin_; }

  const stored_tensor& find(const std::string& name, index_t rows, index_t cols) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw bad_input(path_ + " has no tensor " + name);
    const auto& shape = found->second.shape;
    const auto  down = static_cast<std::uint64_t>(rows), across = static_cast<std::uint64_t>(cols);
    const bool  fits = shape.size() == 2 ? shape[0] == down && shape[1] == across
                                         : shape.size() == 1 && rows == 1 && shape[0] == across;
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
