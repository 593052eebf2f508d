#include "engine/growing_attention.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/error.hpp"
#include "engine/progress.hpp"

namespace engine {

namespace {

/// How many times a mean of floats is larger than one that is kept as this.
std::int64_t times_smaller(cascada::summary_type kept) {
  switch (kept) {
    case cascada::summary_type::as_multiplied: break;
    case cascada::summary_type::bfloat16: return 2;
    case cascada::summary_type::bytes: return 4;
  }
  return 1;
}

}  // namespace

void growing_attention::operator()(const attention_input& next, matrix& out) {
  const auto index = static_cast<std::size_t>(next.layer);
  if (layers_.size() == index) {
    layers_.emplace_back(cascada::growing_selection<float>(mode_.selection, where_));
    if (mode_.pages) layers_.back().pages = page_bounds(mode_.pages->tokens);
  }
  layer& own = layers_[index];
  own.keys.append(next.keys), own.values.append(next.values);
  if (mode_.source == selection_source::cascade) select(next.residual, own, index == 0 ? nullptr : &own - 1);

  const stopwatch                  attending;
  const cascada::representatives   kept[] = {own.selection.kept()};
  const cascada::strided_kv<float> kv     = {own.keys.heads(next.kv_heads), own.values.heads(next.kv_heads)};
  if (mode_.pages) {
    attend_pages(next, kv, own, out);
    costs_.attention_seconds += attending.seconds();
    return;
  }
  const auto& report = attention_.extend(own.state, next, kv, kept, out);
  costs_.attention_seconds += attending.seconds();
  const std::int64_t bytes = std::int64_t{kv.key_dim() + kv.value_dim()} * std::int64_t{sizeof(float)};
  costs_.bytes +=
      (report.near_keys + report.computed) * bytes + report.leaves * bytes / times_smaller(mode_.options.summaries);
  costs_.dense_bytes += report.dense_keys * bytes;
}

index_t growing_attention::truncate(index_t end) {
  if (end >= tokens()) return tokens();
  if (!mode_.pages && layers_.front().state.truncate(end) == cascada::status::unsupported)
    end -= end % mode_.options.tile;
  for (layer& own : layers_) {
    const index_t selected = std::min(own.selection.kept().tokens(), end);
    if (!mode_.pages) require_ok(own.state.truncate(end), "attention");
    own.pages.keep_first(end);
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

void growing_attention::attend_pages(const attention_input& next, const cascada::strided_kv<float>& kv, layer& own,
                                     matrix& out) {
  const index_t      T = kv.tokens(), of_page = mode_.pages->tokens, group = next.heads / next.kv_heads;
  const std::int64_t key_bytes = std::int64_t{kv.key_dim()} * std::int64_t{sizeof(float)};
  const std::int64_t row_bytes = key_bytes + std::int64_t{kv.value_dim()} * std::int64_t{sizeof(float)};
  const auto         queries   = heads(next.queries, next.heads);
  const auto         results   = heads(out, next.heads);
  own.pages.extend(kv.keys);
  if (next.sliding_window.value_or(T) < T)
    throw bad_input("attention: pages know nothing of a sliding window, and " + std::to_string(T) +
                    " tokens are more than the model's");
  if (queries.tokens > 1) {
    const auto& report = attention_.last(next, queries, kv, results);
    costs_.bytes += report.dense_keys * row_bytes, costs_.dense_bytes += report.dense_keys * row_bytes;
    return;
  }
  const std::int64_t bounds     = 2 * key_bytes * own.pages.pages();
  const double       affordable = mode_.pages->read * static_cast<double>(row_bytes) * T - static_cast<double>(bounds);
  const auto         count = std::max(1, static_cast<index_t>(affordable / static_cast<double>(row_bytes * of_page)));
  for (index_t h = 0; h < next.kv_heads; ++h) {
    std::vector<float> keys, values;
    for (const index_t page : own.pages.choose({queries.row(0, h * group), group, queries.dim, queries.dim}, h, count))
      for (index_t t = page * of_page; t < std::min(T, (page + 1) * of_page); ++t) {
        keys.insert(keys.end(), kv.keys.row(t, h), kv.keys.row(t, h) + kv.key_dim());
        values.insert(values.end(), kv.values.row(t, h), kv.values.row(t, h) + kv.value_dim());
      }
    const auto                       rows = static_cast<index_t>(keys.size()) / kv.key_dim();
    const cascada::strided_kv<float> read = {
        cascada::packed_heads<const float>(keys.data(), rows, 1, kv.key_dim()),
        cascada::packed_heads<const float>(values.data(), rows, 1, kv.value_dim())};
    auto of_group = queries;
    auto to_group = results;
    of_group.data = queries.row(0, h * group), of_group.heads = group;
    to_group.data = results.row(0, h * group), to_group.heads = group;
    attention_.last(next, of_group, read, to_group);
    costs_.bytes += bounds + rows * row_bytes, costs_.dense_bytes += T * row_bytes;
  }
}

}  // namespace engine
