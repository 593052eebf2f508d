#pragma once
// Keys of config.json that would change the mathematics and that no reader here knows.

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "engine/config.hpp"

namespace engine {

/// Refuses by name what an architecture's relatives and forks say about their attention, norms, scales or weights.
/// Keys that do not matter to a forward pass are too many to be listed, so others pass, as do those that the reader of
/// an architecture says it knows.
inline void require_usual_mathematics(const config& file, const std::set<std::string>& known = {}) {
  // clang-format off: one a line otherwise
  for (const char* key :
       {"quantization_config", "compression_config", "pruned_heads", "add_cross_attention", "is_encoder_decoder",
        "use_sliding_window", "alibi", "clip_qkv", "qk_layernorm", "use_qk_norm", "attn_logit_softcapping",
        "final_logit_softcapping", "query_pre_attn_scalar", "attention_multiplier", "no_rope_layers",
        "rope_interleaved", "use_bidirectional_attention", "num_experts", "num_local_experts", "n_routed_experts"})
    if (known.count(key) == 0) file.require_usual(key);
  // clang-format on
  for (const char* factor : {"partial_rotary_factor", "rotary_pct", "embedding_multiplier", "residual_multiplier",
                             "logits_scaling", "logit_scale", "scale_emb"})
    file.require_usual(factor, 1);
  if (known.count("layer_types") > 0 || !file.has("layer_types")) return;
  for (const nlohmann::json& type : file.json().at("layer_types"))
    if (type != "full_attention")
      throw bad_input(file.path() + ": layer_types other than full_attention are not supported");
}

/// The same for models without scalable rotary positions.
inline void require_usual_positions(const config& file) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) file.require_usual(key);
}

}  // namespace engine
