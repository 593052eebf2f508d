"""Mutants of sequences that grow, each with the test case that notices it."""

cuts, back = "attention_growing: growing: however a sequence*", "attention_growing: growing: after truncating*"
refused, bytes_of = "attention_growing: growing: what is refused*", "attention_growing: growing: bytes*"
memory = "lifetimes: lifetimes: memory runs out in a sequence that grows"
last_queries, ragged = "attention_growing: growing: the last queries*", "attention_growing: growing: ragged*"
steps = "attention_in_place: in place: steps of a few tokens*"
anything = "random_cases: random cases: every path agrees with the reference"

mutants = [
    ("asked: what earlier calls opened is forgotten", "return {start_.leaves.data(), static_cast<std::size_t>(start_.open())};",
     "return {};", cuts),
    ("asked: as many leaves as the first token had", "return tokens == 0 ? 0 : seen[tokens - 1];",
     "return tokens == 0 ? 0 : seen[0];", cuts),
    ("asked: of another tile", "return tokens >= first && tile == which;", "return tokens >= first;", back),
    ("asked: earlier tokens of the tile are lost", "if (earlier > 0) std::copy_n(start_.seen.data(), earlier, one.seen.data());",
     "if (earlier > 0) std::fill_n(one.seen.data(), earlier, 0);", back),
    ("state: leaves beyond the edge stay", "if (head.leaves.tokens() > edge) begin_leaves(head, head.leaves.shape());", "", back),
    ("state: clusters beyond the edge stay", "for (auto& of_selection : clusters_) of_selection.truncate(edge);", "", back),
    ("state: clusters are not added", "heads_[h].chains.add_clusters(own.count);", "heads_[h].chains.add_clusters(1);", cuts),
    ("state: any number of query heads", "if (begun_ && heads != heads_of_q_)", "if (false)", refused),
    ("state: bytes of what was cleared", "if (!begun_) return all;", "", bytes_of),
    ("state: sinks count as tokens of leaves", "std::int64_t{tokens_ - shape_.sinks}", "std::int64_t{tokens_}", bytes_of),
    ("state: memory that ran out is not asked for again", "touched_.grow(tokens, 0);", "touched_.reserve(tokens);", memory),
    ("growth: contents are lost", "if (used > 0) std::memcpy(larger.data_", "if (false) std::memcpy(larger.data_", cuts),
    ("leaves: a new chain has the leaf of none before", "for (; chains_ < tokens; ++chains_) growing_[chains_] = none;",
     "for (; chains_ < tokens; ++chains_) growing_[chains_] = 0;", cuts),
    ("tiles: from where a call begins", "const index_t room = by_mass ? step - (position + first) % step : step;",
     "const index_t room = step;", cuts),
    ("chunks: from where a call begins", "return {.begin = sequence.first - sequence.first % options.chunk, .end",
     "return {.begin = sequence.first, .end", cuts),
    ("queries: as if they were the first", "sequence.query_base = spans.queries[s] - sequence.first;",
     "sequence.query_base = spans.queries[s];", last_queries),
    ("keys: as many as queries", "sequence.tokens     = spans.tokens(s);", "sequence.tokens     = spans.asking(s);", ragged),
    ("selection: an old token stands for itself", "return token < kept_.tokens ? position_[kept_.rep[token]]",
     "return token < kept_.tokens ? 0 * position_[kept_.rep[token]]", anything),
    ("selection: truncated tokens are counted", "for (index_t t = tokens; t < kept_.tokens; ++t) --kept_.counts[position_[kept_.rep[t]]];",
     "", anything),
    ("selection: rows of new representatives stay where they were", "if (place != m) std::copy_n(row(place), cols, row(m));", "",
     anything),
    ("selection: old representatives are found again", "for (index_t i = 0; i < known; ++i) scans.add(i, false);", "", anything),
    ("in place: of the first head", "use(i, item(h, first + i < count ? first + i : count - 1),",
     "use(i, item(0, first + i < count ? first + i : count - 1),", steps),
    ("in place: old values shrink again and again", "for (index_t row = 0; row < rows; ++row) factors[h * rows + row] = 1;", "",
     steps),
    ("in place: what later tokens of a call see", "return seen <= begin ? 0 : seen - begin < portion_keys ? seen - begin : portion_keys;",
     "return seen <= begin ? 0 : portion_keys;", steps),
    ("in place: keys that the first token does not see", "if (const index_t seen = within(row / tile.group); seen > least)",
     "if (const index_t seen = within(row / tile.group); false)", steps),
    ("in place: large values are multiplied unseen", "if (watch.ordinary()) return true;", "return true;", steps, "bf16"),
    ("in place: large values enter twice", "copy_softmax(before, tile);", "", steps, "bf16"),
    ("in place: no lengths of keys", "lengths_so_far<B>(most, reach(h, 0)), block.reach = reach(h, 0);",
     "block.reach = nullptr;", steps, "bf16"),
]
