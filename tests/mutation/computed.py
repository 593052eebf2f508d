"""Mutants of rows that are computed, each with the test case that notices it."""

vectors, of_floats = "attention_computed: computed: vectors*", "attention_computed: computed: Q8_0 of floats"
growing, steps = "attention_computed: computed: a sequence*", "attention_computed: computed: few queries*"
refused, layouts = "attention_computed: computed: head dimensions*", "attention_computed: computed: in every mode*"

mutants = [
    ("blocks: the first one is every one", "return data[c / Block::elements][c % Block::elements];",
     "return data[0][c % Block::elements];", vectors),
    ("blocks: a row is its first and its last one", "      to += some;", "", growing),
    ("blocks: count as one element", "return static_cast<index_t>(std::int64_t{dim} * Block::elements);", "return dim;", layouts),
    ("blocks: as many as anyone likes", "rows_of<Stored>::count(view.dim) / rows_of<Stored>::count(1) != view.dim", "false", refused),
    ("blocks: lanes of the next one", "load_integers<B>(block.values + first % q8_0_block::elements)",
     "load_integers<B>(block.values + first % q8_0_block::elements + 1)", vectors),
    ("in place: scales of the first block", "(k + 4 * Begin) / elements;", "0;", steps),
    ("in place: every second half of keys is the first", "add_block.template operator()<fours>();",
     "add_block.template operator()<0>();", steps, "bf16"),
    ("in place: one scale for all values", "if (v * vec<B>::width % elements == 0) scale =", "if (v == 0) scale =", steps, "bf16"),
    ("Q8_0: integers without a sign", "_mm512_cvtepi8_epi32(", "_mm512_cvtepu8_epi32(", vectors, "bf16"),
    ("Q8_0: one integer in all lanes", "lanes[lane] = static_cast<float>(from[lane]);", "lanes[lane] = static_cast<float>(from[0]);",
     vectors, "baseline"),
    ("Q8_0: scales of zero", "if (block.scale.bits == 0) return {};", "", of_floats),
    ("Q8_0: infinite scales", "if (!finite || block.scale.bits == 0x7c00u)", "if (!finite)", of_floats),
    ("Q8_0: ties to even", "std::round(from[i] * (1 / unit))", "std::nearbyint(from[i] * (1 / unit))", of_floats),
    ("in place: computed rows of a portion are its last", "row.load(0, dim, room + i * dim);", "row.load(0, dim, room);",
     growing),
]
