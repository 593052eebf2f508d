"""Mutants of saved states, each with the test case that notices it."""

refused, selection = "saved_states: saved: bytes of attention*", "saved_states: saved: bytes of a selection*"
goes_on, grows = "saved_states: saved: attention goes on*", "saved_states: saved: a selection goes on*"
chunks = "saved_states: saved: a tile opened leaves*"

mutants = [
    ("saved: no checksum", "if (checksum != format::checksum(all, length - sizeof checksum))", "if (false)", selection),
    ("saved: any length", "if (!matches(std::uint64_t{length}))", "if (!matches(std::uint64_t{length}) && false)", selection),
    ("saved: any version", "if (!matches(format::version))", "if (!matches(format::version) && false)", selection),
    ("saved: any kind", "if (!matches(kind))", "if (!matches(kind) && false)", selection),
    ("saved: rows of any type", "if (!matches(rows))", "if (!matches(rows) && false)", selection),
    ("saved: more than there is", "return count >= 0 && static_cast<std::uint64_t>(count) <= left_ / sizeof(Value);",
     "return count >= 0;", selection),
    ("saved selection: rows that no norm has", "if (!detail::is_finite(kernel::canonical_product<B>(own, own, cols)))",
     "if (false)", selection),
    ("saved selection: representatives that are none", "if (rep < 0 || rep > i || kept.rep[rep] != rep)",
     "if (rep < 0 || rep > i)", selection),
    ("saved selection: representatives without rows", "if (kept.count != count)", "if (false)", selection),
    ("saved selection: no counts", "++kept.counts[position[rep]];", "", grows),
    ("saved selection: any threshold", "if (!from.matches(options_.threshold) || !from.matches(options_.assign))",
     "if (!(from.matches(options_.threshold), from.matches(options_.assign)))", selection),
    ("saved options: one is missing", "std::bit_cast<std::uint32_t>(open_above), static_cast<std::uint32_t>(tile),",
     "0, static_cast<std::uint32_t>(tile),", "attention_growing: growing: what is refused*"),
    ("saved clusters: numbers that are skipped", "if (cluster_of[tokens] < 0 || cluster_of[tokens] > count) return false;",
     "if (cluster_of[tokens] < 0) return false;", refused),
    ("saved clusters: too few", "if (end < least || end > most ||", "if (end > most ||", refused),
    ("saved clusters: too many", "if (end < least || end > most ||", "if (end < least ||", refused),
    ("saved leaves: made from nothing", "kernel::attention::extend_leaves(sequence, options.leaves, head, end, space", "kernel::attention::extend_leaves(sequence, options.leaves, head, 0, space",
     goes_on),
    ("saved tiles: forgotten", "const index_t known = one.holds(tile, all) ? all : 0;", "const index_t known = 0;", goes_on),
    ("saved tiles: leaves that are closed again", "if (one.seen[i] < before || one.seen[i] > count) return false;",
     "if (one.seen[i] > count) return false;", refused),
    ("saved tiles: leaves that are none", "one.leaves[i] < 0 || one.leaves[i] >= count ||", "one.leaves[i] < 0 ||", refused),
    ("saved tiles: leaves twice", "|| start_.leaves[one.leaves[i]]++ > 0) return false;", ") return false;", refused),
    ("saved tiles: leaves of later chunks", "while (count > 0 && first_[count - 1] >= end) --count;", "", chunks),
    ("saved: room that was asked for", "loaded.wanted_ = wanted_;", "",
     "lifetimes: lifetimes: what was loaded with room for it allocates nothing"),
]
