#include "engine/growing_attention.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

#include "engine/error.hpp"
#include "engine/progress.hpp"

namespace engine {

void growing_attention::operator()(const attention_input& next, matrix& out) {
  const auto index = static_cast<std::size_t>(next.layer);
  if (layers_.size() == index) layers_.emplace_back(cascada::growing_selection<float>(mode_.selection, where_));
  layer& own = layers_[index];
  own.keys.append(next.keys), own.values.append(next.values);
  if (mode_.source == selection_source::cascade) select(next.residual, own, index == 0 ? nullptr : &own - 1);

  const stopwatch                  attending;
  const cascada::representatives   kept[] = {own.selection.kept()};
  const cascada::strided_kv<float> kv     = {own.keys.heads(next.kv_heads), own.values.heads(next.kv_heads)};
  const auto&                      report = attention_.extend(own.state, next, kv, kept, out);
  costs_.attention_seconds += attending.seconds();
  const std::int64_t bytes   = std::int64_t{kv.key_dim() + kv.value_dim()} * std::int64_t{sizeof(float)};
  const bool         rounded = mode_.options.summaries == cascada::summary_type::bfloat16;
  costs_.bytes += (report.near_keys + report.computed) * bytes + report.leaves * bytes / (rounded ? 2 : 1);
  costs_.dense_bytes += report.dense_keys * bytes;
}

index_t growing_attention::truncate(index_t end) {
  if (end >= tokens()) return tokens();
  if (layers_.front().state.truncate(end) == cascada::status::unsupported) end -= end % mode_.options.tile;
  for (layer& own : layers_) {
    const index_t selected = std::min(own.selection.kept().tokens(), end);
    require_ok(own.state.truncate(end), "attention");
    require_ok(own.selection.truncate(selected), "selection");
    own.keys.keep_first(end), own.values.keep_first(end);
    if (mode_.source == selection_source::cascade) own.unselected.keep_first(end - selected);
  }
  return end;
}

void growing_attention::select(const matrix& residual, layer& own, const layer* below) {
  const stopwatch selecting;
  own.unselected.append(residual);
  const index_t count = own.unselected.rows() - own.unselected.rows() % mode_.options.chunk;
  if (count > 0) {
    const auto before    = static_cast<std::size_t>(own.selection.kept().tokens());
    const auto inherited = below ? below->selection.kept().rep.subspan(before) : std::span<const index_t>();
    require_ok(own.selection.extend(own.unselected.first(count), inherited), "selection");
    own.unselected.drop_first(count);
  }
  costs_.selection_seconds += selecting.seconds();
}

}  // namespace engine
