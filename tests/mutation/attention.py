"""Mutants of leaves and of attention, each with the test case that notices it."""

anything, per_tile = "attention: attention: a selection per KV head", "attention_opening: opening: strictly causal*"
report = "attention_opening: opening: the report says what the reference counts*"
closed, no_leaves = "attention_opening: opening: the report of closed*", "attention_opening: opening: the report where*"
alone, hair = "attention_opening: opening: leaves of one token*", "attention_opening: *by a hair*"
causal, threads = "attention_properties: attention: changing later*", "attention_properties: attention: threads*"
batch, layouts = "attention_properties: attention: a batch*", "attention_properties: attention: layouts*"
far_apart = "attention: attention: logits hundreds*"
clusters, views = "cluster: cluster: members*", "kv_view: kv_view: *"
members, beyond = "leaves: leaves: members*", "leaves: leaves: beyond*"
last_digit, overflow = "leaves: *last digit*", "leaves: leaves: where sums*"
chains, ties = "leaves: chains: keys of every type*", "leaves: chains: of equal cosines*"
huge_means = "leaves: leaves: means of huge keys*"
same, odd_keys, narrow = "leaves: chains: a duplicate*", "leaves: chains: keys that are zero*", "leaves: *few ulps*"
picked, no_number = "attention_odd_values: odd values: logits up to 1e30*", "attention_odd_values: odd values: rows of NaN*"
growing, last = "attention_growing: growing: however*", "attention_growing: growing: the last queries*"
truncating = "attention_growing: growing: after truncating*"
lengths = "attention_odd_values: odd values: variances and lengths*"
sides, sinks = "attention_merge: merge: a side*", "attention: *with sink logits*"
window, before_window = "attention: attention: a sliding window*", "attention_terms: sliding window: what lies before*"
slopes, slopes_and_window = "attention: attention: slopes*", "attention_terms: terms: however*"
pairs_causal = "attention_pairs: *later tokens*"
pairs_means = "attention_pairs: *equal logits*"
pairs_large = "attention_pairs: *one large value*"
pairs_sizes = "attention: *logits and values*"

mutants = [
    ("clusters: a token counts as older than itself", "if (list[middle] < least)",
     "if (list[middle] <= least)", clusters),
    ("clusters: offsets stay at the ends", "for (index_t j = count; j > 0; --j) offsets[j] = offsets[j - 1];", "", clusters),

    ("chains: ties to the younger chain", "exact_product(product_a, norm_b) > exact_product(product_b",
     "exact_product(product_a, norm_b) >= exact_product(product_b", ties),
    ("chains: the first anchor that covers", "if (best.chain == none || detail::nearer(", "if (best.chain == none || 0 * detail::nearer(", ties),
    ("chains: a product at the threshold does not cover", "return bits_less_equal(low, products) & bits_less(",
     "return bits_less(low, products) & bits_less(", same),
    ("chains: products of zero cover", "(low, products) & bits_less(vec<B>::zero(), products);", "(low, products);", odd_keys),
    ("chains: zero keys have company", "detail::norm_or(square, 0)", "detail::norm_of(square)", odd_keys),
    ("chains: huge keys have company", "return is_finite(square) && !is_zero_row(square) ?", "return !is_zero_row(square) ?", odd_keys),
    ("chains: anchors begun within a batch are not asked", "if (sizes_[cluster] > before) search_new", "if (false) search_new",
     chains),
    ("chains: a full strip is taken for a ragged one", "ragged = before % width != 0;", "ragged = true;", chains),
    ("chains: a round's last strip twice", "if (more && (p + 1) * width < count)", "if (more && p + 1 < Strips)", chains),
    ("chains: estimates without a margin", "bits_less_equal(low - vec<B>::broadcast(sum_margin<B>(cols) * norm) * norms, products) |",
     "bits_less_equal(low, products) |", narrow, "baseline"),
    ("chains: estimates cover", "if (!B::has_fma && !detail::covers(product, scaled, norms[lane])) continue;", "", narrow, "baseline"),
    ("chains: estimates choose", "B::has_fma ? values[lane]", "true ? values[lane]", narrow, "baseline"),

    ("leaves: one member too many", "counts_[leaf] == shape_.size) leaf", "counts_[leaf] > shape_.size) leaf", members),
    ("leaves: members of old leaves do not count", "if (counts_[j] == 0 || last_[j] < begin) scratch.touched",
     "if (counts_[j] == 0) scratch.touched", members),
    ("leaves: sinks are members", "= shape.sinks;", "= 0;", members),
    ("leaves: means by a reciprocal", "(vec<B>::load(sums_.data() + k) / vec<B>::broadcast(size)).store(",
     "(vec<B>::load(sums_.data() + k) * vec<B>::broadcast(1 / size)).store(", members),
    ("leaves: variances around the first key", "return squares * share - shift * shift;",
     "return squares * share - (shift - shift);", members),
    ("leaves: negative variances", "return sum > 0 ? sum / static_cast<float>(end - begin) : 0.0f;",
     "return sum / static_cast<float>(end - begin);", last_digit),
    ("leaves: the second key has no distance", "if constexpr (Spread) squares[v] = multiply_add(",
     "if (Spread && left != members.count - 1) squares[v] = multiply_add(", members),
    ("leaves: the second key has no distance in its last columns", "squares += distance * distance;",
     "squares += t == members.next[members.first] ? 0 : distance * distance;", members),
    ("leaves: groups of as many dimensions each", "std::int64_t{g} * key_dim / moments", "std::int64_t{g} * (key_dim / moments)", members),
    ("leaves: means whose sums overflow", "if (!detail::is_finite(sums_[k])) means_[k]", "if (false) means_[k]", overflow),
    ("leaves: variances whose sums overflow", "if (!detail::is_finite(sum)) return", "if (false) return", overflow),
    ("leaves: sums go on from the leaf before", "sums[v] = squares[v] = vec<B>::zero();",
     "squares[v] = vec<B>::zero(), sums[v] = vec<B>::load(sums_.data() + c + v * width);", members),
    ("leaves: sums of the last columns go on from the leaf before", "vec<B>::zero().store(sums_.data() + c);", "", members),
    ("leaves: squares go on from the leaf before", "sums[v] = squares[v] = vec<B>::zero();",
     "sums[v] = vec<B>::zero(), squares[v] = vec<B>::load(squares_.data() + c + v * width);", members),
    ("leaves: infinite variances", "static_cast<float>(detail::from_zero_to(variance, largest) ? variance : largest);",
     "static_cast<float>(variance);", overflow),
    ("leaves: one token counts as several", "several = counts_[j] > 1 ?", "several = counts_[j] > 0 ?", members),
    ("leaves: rounded means of finite rows are infinite", "(rounded_[k].bits & 0x7fffu) == infinite >> 16) --rounded_", "false) --rounded_",
     huge_means),
    ("leaves: bytes carry no excess", "excess = excess_of_fours * reduce_sum(all);", "excess = 0 * reduce_sum(all);", "attention: attention: every mode*"),
    ("leaves: bytes of values carry no excess", "-excess_of_fours * scale_weights", "-0.0f * scale_weights", "attention: attention: every mode*"),
    ("leaves: bytes of values have no scale", "(vec<B>::load(weights + j) * vec<B>::load(scales + j)).store(weights + j);",
     "vec<B>::load(weights + j).store(weights + j);", "attention: attention: every mode*"),
    ("leaves: bytes of keys have no scale", "vec<B>::broadcast(excess)) * vec<B>::load(leaves.key_scales() + first + j))",
     "vec<B>::broadcast(excess)))", "attention: attention: every mode*"),
    ("leaves: bytes of one pair", "_mm512_set1_epi32(which * 0x2'0002)", "_mm512_set1_epi32(0 * which)", "attention: attention: every mode*"),
    ("leaves: bytes of what is not finite", ": top == infinite ? std::numeric_limits<float>::infinity()", ": top == infinite ? 1.0f",
     "attention_odd_values: odd values: logits of -infinity*"),
    ("leaves: bytes of the smallest means", "std::bit_cast<std::uint32_t>(0x1p-100f)", "std::bit_cast<std::uint32_t>(0x1p-90f)",
     "leaves: leaves: means as bytes*"),
    ("leaves: only the even ones of rounded means count", "(j % 2 == 0 ? 16 : 0)", "16", anything),
    ("leaves: natural logarithms", "= std::log2(static_cast<float>(counts_[j]));", "= std::log(static_cast<float>(counts_[j]));", members),
    ("leaves: counts of leaves that are gone stay", "clear(log_counts_.data() + j, block);", "", beyond),

    ("near field: begins a token late", "? 0 : begin - window;", "? 0 : begin - window + 1;", anything),
    ("near field: sinks beyond the edge count twice", "return {edge, options.sink_tokens < edge ? options.sink_tokens : edge};",
     "return {edge, options.sink_tokens};", anything),
    ("near field: the next token is seen", "near.sinks + first + 1 - near.edge,", "near.sinks + first + 2 - near.edge,", causal),
    ("dense: the next token is seen", "causal ? first + 1 : T,", "causal ? first + 2 : T,", causal),
    ("tasks: tiles are cut", "? options.tile : 1;", "? 1 : 1;", report),
    ("batch: every sequence is the first", "sequence.base       = spans.keys[s];", "", batch),
    ("selections: one for all KV heads", "selections.size() == 1 ? 0 : static_cast<std::size_t>(h);", "0;", anything),

    ("correction: without a cap", "min(biases[i], most) + log_count;", "biases[i] + log_count;", far_apart),
    ("correction: a cap of 5", "largest_correction = 4;", "largest_correction = 5;", "attention: attention: a correction counts*"),
    ("correction: twice of it", "0.5 / std::numbers::log2e", "1.0 / std::numbers::log2e", anything),
    ("correction: infinite lengths of queries", "detail::from_zero_to(square, largest) ? square : largest;", "square;", lengths),
    ("correction: groups begin where keys do", "for (index_t k = shape.group_edge(g); k < shape", "for (index_t k = 0; k < shape",
     "attention: *head dimensions*"),
    ("leaf logits: counts are forgotten", "min(biases[i], most) + log_count;", "min(biases[i], most);", anything),
    ("softmax: near keys do not shrink beside leaves", "(vec<B>::load(sums) * share).store(sums);", "", anything),

    ("opening: of near keys' total", "total    = tile.sum(row);", "total    = tile.sum(row) - scratch.closed_of(row);", report),
    ("opening: NaN asks", "detail::is_finite(total) ? open_above * total : std::bit_cast<float>(all_bits);", "open_above * total;",
     no_number, "bf16"),
    ("opening: asked for at the share itself", "return bits_less(vec<B>::broadcast(bound), vec<B>::load(weights + first));",
     "return bits_less_equal(vec<B>::broadcast(bound), vec<B>::load(weights + first));", hair),
    ("opening: leaves of one token open", "if (leaf >= leaves.count() || leaves.size(leaf) == 1) continue;",
     "if (leaf >= leaves.count()) continue;", alone),
    ("opening: only a group's first head asks", "row < (i + 1) * tile.group; ++row)", "row < i * tile.group + 1; ++row)",
     report),
    ("opening: the tile before has asked", "scratch.open[j / at_once] = 0;", ";", report),
    ("opening: tokens see what later ones of the tile open", "block.seen_by = far.seen.data();", "block.seen = opened;", per_tile),
    ("opening: later ones of the tile close leaves", "scratch.leaves_seen[row / tile.group]);",
     "scratch.leaves_seen[tile.rows / tile.group - 1]);", per_tile),
    ("opening: tiles of any size", "if (detail::opens_by_mass(options)) return options.tile;", "", report),
    ("opening: open leaves weigh on", "tile.sums[row * vec<B>::width] -= taken;", "", anything),
    ("opening: what is left has lost its digits", "if (!detail::is_finite(left) || left >= taken) continue;", "continue;",
     "attention: attention: a leaf that weighs more*"),
    ("opening: leaves are kept whose tokens weigh nothing", "left < 0x1p-20f * taken)", "false)", picked),

    ("report: open leaves have mass", "scratch.closed[row * vec<B>::width] -= taken;", "", report),
    ("report: mass of all heads", "0x1p-32 / sequence.group;", "0x1p-32;", closed),
    ("report: all rows see all that is open", "far.counts.opened += far.seen[i];", "far.counts.opened += opened;", report),
    ("report: open tokens are read once", "std::int64_t{opened} * tokens;", "std::int64_t{opened};", report),
    ("report: sinks are not near", "tokens * (near.edge - near.sinks));", "tokens * near.edge);", report),
    ("report: every row is far", "leaves > 0 ? tokens : 0;", "tokens;", report),

    ("grouped: of the representative", "const index_t leader = lists.first_from(groups.clusters[first + i], now.begin);",
     "const index_t leader = lists.begin(groups.clusters[first + i]);", anything),
    ("grouped: far fields replace near ones", "vec<B>::load(a) * my_share)", "vec<B>::zero())", anything),
    ("grouped: the far maximum", "now       = its > mine ? its : mine;", "now       = its;", far_apart),
    ("r x r: later members count", "std::log2(static_cast<float>(later - begin)) : 0.0f;", "std::log2(static_cast<float>(end - begin)) : 0.0f;",
     anything),
    ("r x r: counts are no logarithms", "later > begin ? std::log2(static_cast<float>(later - begin)) : 0.0f;", "static_cast<float>(later - begin);",
     anything),
    ("r x r: mean queries whose sums overflow", "if (detail::is_finite(sum)) return sum /", "return sum /",
     "attention_odd_values: odd values: clusters whose*"),
    ("r x r: the first member asks for the mean", "+ begin, end - begin, tile.part", "+ begin, 1, tile.part", anything),

    ("literal: the other heads keep theirs", "rep != t && head_of_group < sequence.group; ++head_of_group)", "rep != t && head_of_group < 1; ++head_of_group)",
     anything),

    ("tiles: rows of a tile see as much as its first", "for (index_t i = 0; i < rows; ++i) alone(i, first_end, end[i]);", "",
     anything),
    ("tiles: rows of a tile see nothing before its last",
     "for (index_t i = 0; i < rows; ++i) alone(i, first[i], together ? last_first : end[i]);",
     "if (!together) for (index_t i = 0; i < rows; ++i) alone(i, first[i], end[i]);", "attention_terms: *"),
    ("tiles: old values shrink twice", "add(i, 1, begin, stop, factors + i), factors[i] = 1;", "add(i, 1, begin, stop, factors + i);",
     anything),
    ("tiles: lanes beyond the keys weigh", "for (index_t j = count; j < padded; ++j) logits[j] =", "for (index_t j = count; j < 0; ++j) logits[j] =",
     anything),
    ("tiles: sums do not shrink", "multiply_add(vec<B>::load(sums), shrink, total).store(sums);",
     "(vec<B>::load(sums) + total).store(sums);", far_apart),
    ("results: a row that sees nothing is NaN", "return (std::bit_cast<std::uint32_t>(sum) << 1) == 0;", "return false;",
     "attention: attention: a row that sees nothing*"),
    ("results: ties to odd", "rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16", "rounded = (bits + 0x8000u) >> 16", "attention_pairs: *vectors of results*"),

    ("log-sum-exps: in base 2", "base_2 * std::numbers::ln2);", "base_2);", anything),
    ("merge: a side that saw nothing counts", "if (detail::is_minus_infinity(second)) return {true, false, 1, 0, first};", "", sides),
    ("merge: in the arithmetic of the host", "const kernel::float_environment<B> usual;\n  for (index_t t = 0; t < first.tokens;",
     "for (index_t t = 0; t < first.tokens;", "attention_host_modes: host modes: merge*"),
    ("merge: NaN of a small share is lost", "if (!share.second_saw)", "if (share.second == 0)", sides),
    ("sink logits: have no term", "*sum             = 1;", "*sum             = 0;", sinks),
    ("sink logits: of the first heads", "sequence.sink_logits[kv_head * tile.group + row % tile.group]",
     "sequence.sink_logits[row % tile.group]", sinks),
    ("sliding window: a token longer", "adjust.hidden = std::int64_t{position} - terms.sliding_window + 1 - first;",
     "adjust.hidden = std::int64_t{position} - terms.sliding_window - first;", window),
    ("sliding window: keys before it are seen", "hidden < end[i] ? hidden : end[i];", "hidden < end[i] ? 0 : end[i];", before_window),
    ("softcap: before the scale of means", "corrections[0] * steep * steep, most)", "corrections[0] * steep, most)", anything),
    ("slopes: signed distances", "between < 0 ? -between : between", "between", slopes),
    ("slopes: of the block's first keys", "adjust.positions + block.begin + j", "adjust.positions + j", slopes_and_window),

    ("views: pages in order", "block_table[token / block_tokens] * block_tokens", "token / block_tokens * block_tokens", views),
    ("views: a page's end may lie outside", "(block + 1) * block_tokens > keys.tokens", "block * block_tokens >= keys.tokens", views),
    ("views: V not transposed", "values + kv_head * head_stride + token, dim_stride}", "values + kv_head * head_stride + token, 1}", views),
    ("options: everything opens above 1", "|| options.open_above == 1)", ")", "attention_errors: attention: options"),

    ("growing: queries lie at the beginning", "= sequence.tokens - spans.queries_of(s);", "= 0;", last),
    ("growing: what earlier calls opened is closed", "{start_.leaves.data(), static_cast<std::size_t>(start_.open())};", "{};",
     growing),
    ("growing: tiles begin with the call", "tasks.from = now.first - (now.first - now.begin) % multiple", "tasks.from = now.first",
     growing),
    ("growing: a tile is remembered as far as its last call went", "one.tokens = earlier + count;", "one.tokens = count;", growing),
    ("truncating: leaves stay", "if (head.leaves.tokens() > edge) begin", "if (false) begin", truncating),
    ("truncating: clusters are numbered from 0 again", "count = std::max(count, cluster_of[t] + 1);", ";", truncating),

    ("pairs: lengths of queries are halved", "to), sequence.scale);", "to), 0.5f * sequence.scale);", pairs_means, "bf16"),
    ("pairs: lengths of keys are halved", "const float length = length_of<B>(squares[i]);",
     "const float length = 0.5f * length_of<B>(squares[i]);", pairs_means, "bf16"),
    ("pairs: logits up to 126 count as small", "small_logit = 60;", "small_logit = 126;", pairs_means, "bf16"),
    ("pairs: large values at even keys are not seen", "if (found.finite & firsts) large(i);", "", pairs_large, "bf16"),
    ("pairs: large values at odd keys are not seen", "if (found.finite & ~firsts) large(i + 1);", "", pairs_large, "bf16"),
    ("pairs: the longest key is a later one", "block.reach[most - 1]));", "block.reach[block.count - 1]));", pairs_causal, "bf16"),
    ("pairs: small after large", "return maximum == 0 || maximum == std::numeric_limits<float>::lowest();", "return true;",
     pairs_sizes, "bf16"),
    ("pairs: small rows leave no maximum", "if (rows.small[i] && rows.seen[i] > 0) rows.tile.maxima[rows.first + i] = 0;", ";", pairs_sizes, "bf16"),
    ("pairs: keys that are not seen weigh", "take(j, (1u << (count - j)) - 1)", "take(j, 0xffff'ffffu)", pairs_causal, "bf16"),
    ("pairs: infinite values that are not seen", "j < block.visible((row + i) / tile.group); ++j)", "j < block.count; ++j)",
     pairs_causal, "bf16"),
    ("pairs: every other weight is added", "_mm512_add_ps(sum, _mm512_add_ps(first, second));", "_mm512_add_ps(sum, first);",
     pairs_means, "bf16"),
    ("pairs: huge logits are not rounded first", "std::fabs(maxima[i]) <= largest_exact_logit)", "true)", picked, "bf16"),
    ("pairs: the threshold is rounded up", "(std::bit_cast<std::uint32_t>(bound) >> 16);",
     "((std::bit_cast<std::uint32_t>(bound) >> 16) + 1);", hair, "bf16"),
]
