#pragma once
// A model's weights as published: model.safetensors, or the shards that model.safetensors.index.json lists.

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "engine/error.hpp"
#include "engine/file.hpp"
#include "engine/linear.hpp"
#include "engine/norm.hpp"
#include "engine/safetensors.hpp"

namespace engine {

/// All files are opened and checked at once; tensors are looked for when they are asked for.
class checkpoint {
 public:
  explicit checkpoint(const std::string& folder) : index_path_(folder + "/model.safetensors.index.json") {
    const std::string one = folder + "/model.safetensors";
    if (is_there(one) || !is_there(index_path_)) {
      whole_ = &open(one);
      return;
    }
    const auto index = read_json(index_path_);
    const auto map   = index.find("weight_map");
    if (map == index.end() || !map->is_object()) throw bad_input(index_path_ + " has no weight_map");
    for (const auto& [name, shard] : map->items()) {
      const std::string file = shard.is_string() ? shard.get<std::string>() : "";
      if (file.empty() || file.find('/') != std::string::npos)
        throw bad_input("the shard of tensor " + name + " in " + index_path_ + " is no file name");
      shards_.emplace(name, &open(folder + "/" + file));
    }
  }

  bool contains(const std::string& name) const {
    return whole_ != nullptr ? whole_->contains(name) : shards_.count(name) != 0;
  }

  /// As safetensors::map and safetensors::load.
  stored_matrix map(const std::string& name, index_t rows, index_t cols) const {
    used_.insert(name);
    return file_of(name).map(name, rows, cols);
  }
  matrix load(const std::string& name, index_t rows, index_t cols) const {
    used_.insert(name);
    return file_of(name).load(name, rows, cols);
  }

  /// Names of tensors that nobody asked for, sorted; without tables that some makers store and anybody can compute.
  std::vector<std::string> unused() const {
    std::vector<std::string> out;
    for (const std::string& name : names())
      if (used_.count(name) == 0 && !is_table(name)) out.push_back(name);
    return out;
  }

 private:
  std::vector<std::string> names() const {
    if (whole_ != nullptr) return whole_->names();
    std::vector<std::string> out;
    for (const auto& entry : shards_) out.push_back(entry.first);
    return out;
  }

  /// Causal masks, rotary frequencies, and 0, 1, 2, ...
  static bool is_table(const std::string& name) {
    for (const char* suffix : {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", "embeddings.position_ids"})
      if (name.ends_with(suffix)) return true;
    return false;
  }

  const safetensors& open(const std::string& path) { return files_.try_emplace(path, path).first->second; }

  const safetensors& file_of(const std::string& name) const {
    if (whole_ != nullptr) return *whole_;
    const auto shard = shards_.find(name);
    if (shard == shards_.end()) throw bad_input(index_path_ + " has no tensor " + name);
    return *shard->second;
  }

  std::string                               index_path_;
  std::map<std::string, safetensors>        files_;  // by path
  std::map<std::string, const safetensors*> shards_;
  const safetensors*                        whole_ = nullptr;  // the one file, where there is no index
  mutable std::set<std::string>             used_;
};

/// NAME.weight [out, in] and NAME.bias.
inline affine load_affine(const checkpoint& file, const std::string& name, index_t out, index_t in) {
  return {file.map(name + ".weight", out, in), file.load(name + ".bias", 1, out)};
}

/// NAME.weight and NAME.bias, [width] each.
inline layer_norm load_norm(const checkpoint& file, const std::string& name, index_t width) {
  return {file.load(name + ".weight", 1, width), file.load(name + ".bias", 1, width)};
}

}  // namespace engine
