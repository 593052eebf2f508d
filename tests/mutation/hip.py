"""Mutants of gfx942's kernels, each with the test case on the simulator that notices it. Every barrier is one."""

import re
import sys
from pathlib import Path

folder = Path(__file__).resolve().parents[2] / "include/cascada/hip"

layout, faults = "simulator: layout of the matrix instructions*", "hip cascade: a step that fails on the device*"
ragged, inherited = "hip cascade: ragged sizes*", "hip cascade: any inherited state"
panels, work = "hip cascade: more representatives than a panel*", "hip cascade: no pair is computed without need"
paper = "hip cascade: paper mode from any inherited state"
modes, shapes = "hip attention: every mode*", "hip attention: head sizes*"
rising, sizes = "hip attention: scores that rise*", "hip attention: equal logits of every size*"
opens, outputs = "hip opening: leaves open*", "hip opening: outputs close*"
joins, batches = "hip chains: keys join*", "hip chains: more keys than a batch*"
ties, at_threshold, odd_keys = "hip chains: of equal*", "hip chains: keys at the threshold*", "hip chains: keys that are zero*"
of_leaves, of_means = "hip attention: leaves by ascending*", "hip attention: means and variances*"
pieces, segments = "hip decode: pieces of a prompt*", "hip decode: as many segments*"

mutants = [
    ("layout: rows of a 32 x 32 result", "return 8 * (v / 4) + 4 * (lane / 32) + v % 4;",
     "return 4 * (v / 4) + 16 * (lane / 32) + v % 4;", layout),

    ("Gram: wrong k of a column", "* pitch + 16 * s + half);", "* pitch + 16 * s);", ragged),
    ("Gram: tail cut short", "return k < cols ? load_8", "return k + 8 < cols ? load_8", ragged),
    ("Gram: eight columns too many", "k + slab <= cols;", "k + slab <= cols + 8;", ragged),
    ("Gram: a lane step missing in a sum", "step < gfx942::wave; step *= 2) value +=",
     "step < gfx942::wave / 2; step *= 2) value +=", inherited),
    ("Gram: no margin", "(1.75f * 0x1p-22f * norm + 0x1p-125f)", "(0.0f * norm)",
     "hip cascade: verdicts at the threshold*"),

    ("Gram: halves of a wave not joined", "return bits | gpu.shuffle(bits, gpu.lane() ^ 32);", "return bits;", inherited),
    ("Gram: rows of the other half of the wave", "return rows << row_32(gpu.lane(), 0);", "return rows;", inherited),
    ("Gram: the chain is not asked", "asked = seen.possible & ~seen.sure; asked != 0; asked &= asked - 1, ++rechecks)",
     "asked = 0; asked != 0; asked &= asked - 1, ++rechecks)", "hip cascade: verdicts at the threshold*"),
    ("graph: pairs above the diagonal", "begin + column <= last ? column - 32 * row_half : 0;", "32;", work),

    ("paper mode: verdicts of another wave", "(panel + first_row) / 32] = bits", "panel / 32] = bits", paper),
    ("paper mode: rows beyond the last representative", "column < count ? former - panel - first_row : 0", "32", work),
    ("paper mode: an addition mistaken for a former one", "call.old_rep(candidate) == candidate)", "true)", paper),

    ("advance: rows beyond the last representative", "norms, last - panel - first_row,", "norms, 32,", work),
    ("advance: the first new representative skipped", "? known_before : 0,", "? known_before + 1 : 0,",
     ragged),
    ("advance: one row of a panel skipped", "panel += gram_panel::rows", "panel += gram_panel::rows + 1",
     "hip cascade: orphans meet every representative"),
    ("advance: orphans of the block forgotten", "return !covered || memory.match", "return memory.match",
     inherited),
    ("advance: tokens that are no members cover", "else if ((row & joined) != 0)", "else if (row != 0)",
     inherited),
    ("advance: ties to the higher index", "return a.position < b.position && !detail::nearer", "return !detail::nearer",
     "hip cascade: ties*"),
    ("advance: positions one too high", "known.representatives + voters_below(gpu, joined);",
     "known.representatives + voters_below(gpu, joined) + (joined >> gpu.lane() & 1);", inherited),
    ("count: a scan one too short", ".representatives + 1,", ".representatives,", inherited),
    ("count: an addition is not counted", "gpu.atomic_add(&total.additions, sums.additions);", "", inherited),
    ("count: a failed step keeps no counts", ", call.now.counts[k] = before.counts[k];", ";", faults),

    ("clusters: a lane step missing in a sum", "if (gpu.lane() >= step) sum += lower;",
     "if (gpu.lane() >= step && step < 32) sum += lower;", shapes),
    ("clusters: the last lane's members lost", "next < end; base += gfx942::wave",
     "next < end; base += gfx942::wave + 1", shapes),
    ("leaves: one token too many is old", "detail::first_from(members, begin, end, token);", "detail::first_from(members, begin, end, token + 1);",
     of_leaves),
    ("leaves: sinks in leaves", "clusters.place_from(first, end, sinks);", "first;", of_leaves),
    ("leaves: a boundary one too late", "(place - begin) % size == 0;", "(place - begin) % (size + 1) == 0;", of_leaves),
    ("leaves: a leaf takes the next one's members", ": end - place < size ? end : place + size}", ": end}", of_leaves),
    ("leaves: those of earlier waves forgotten", "(w < gpu.wave() ? memory.own[w] : 0)", "0", of_leaves),
    ("leaves: those of earlier blocks forgotten", "before += exist && begins(formed[t]);", "", of_leaves),
    ("leaves: none old is not told", "if (j == 0 && (count == 0 || first(0) >= edge))", "if (j == 0 && count == 0)",
     of_leaves),
    ("leaves: one of the chunk's own is far", "if (j + 1 == count || first(j + 1) >= edge)", "if (j + 1 == count)",
     of_leaves),
    ("leaves: a mean of one member too few", "(m - range.begin + 1)", "(m - range.begin + (m == range.begin))", of_means),
    ("leaves: another row's variance", "shuffle(spread, row + (group", "shuffle(spread, (group", of_means),
    ("leaves: half of a group's dimensions", "step < lanes; step *= 2) spread", "2 * step < lanes; step *= 2) spread", of_means),
    ("leaves: squares lose their digits", "first[e]             = is_first ? x : first[e];", "first[e] = 0;", of_means),
    ("leaves: variances where no group is", "group < moments && mean > 0", "mean > 0", of_means),

    ("chains: any anchor that covers", "if (none() || detail::nearer(with, other.norm, product, norm))", "if (none())", joins),
    ("chains: ties to the younger", "detail::nearer(with, other.norm, product, norm)", "!detail::nearer(product, norm, with, other.norm)",
     ties),
    ("chains: ties between halves of a wave", "if (nearer || older) *this = other;", "if (nearer) *this = other;", ties),
    ("chains: half of the anchors", "best.join(other);", "", batches),
    ("chains: the threshold itself does not cover", "detail::covers(product, threshold * key.norm, other.norm);",
     "product > threshold * key.norm * other.norm;", at_threshold),
    ("chains: sums in another order", "__builtin_fmaf(to_float(Scalar{of_a[e]}), to_float(Scalar{of_b[e]}), sum);",
     "__builtin_fmaf(to_float(Scalar{of_a[7 - e]}), to_float(Scalar{of_b[7 - e]}), sum);", at_threshold),
    ("chains: pairs in the margin cover", "bits = seen.sure & asked;", "bits = seen.possible & asked;", at_threshold),
    ("chains: pairs in the margin do not cover", "left = seen.possible & asked & ~bits; left", "left = 0; left", at_threshold),
    ("chains: halves of a wave not joined", "bits |= gpu.shuffle(bits, gpu.lane() ^ 32);", "", joins),
    ("chains: sinks in chains", "token < sinks ? 0 : norm;", "norm;", joins),
    ("chains: keys without a norm join", "{own.norms[place] > 0 ? -1 : place}", "{token < sinks ? place : -1}", odd_keys),
    ("chains: keys of another cluster", "bits_below(i - 32 * row) & ~bits_below(begin - 32 * row);", "bits_below(i - 32 * row);", joins),
    ("chains: anchors that those of earlier waves cover", "waits = waits && (before[w] & batch.anchors[w]) == 0;", "waits = waits && true;",
     joins),
    ("chains: anchors that those of their wave cover", "left &= ~(own | gpu.ballot((before[turn] & own) != 0));", "left &= ~own;", joins),
    ("chains: keys join what is no anchor", "left = before[w] & anchors; left", "left = before[w]; left", joins),
    ("chains: keys beyond a batch are lost", "if (count > threads) next = batch.batch[threads - 1].place + 1;", "", batches),
    ("chains: a round too few", "round < rounds; ++round", "round + 1 < rounds; ++round", batches),
    ("chains: keys that a batch passed over", "first ? next : batch.batch[0].place}", "next}", batches),
    ("chains: later keys meet another cluster's", "bits_below(end - first) & ~bits_below(begin - first);", "bits_below(end - first);",
     batches),
    ("chains: anchors of the future", "now ? detail::first_from(from, 0, count, key.place) : begin;", "now ? count : begin;", batches),
    ("chains: another range's anchors", "own.anchors + std::int64_t{range} * chain_batch;", "own.anchors;", batches),
    ("chains: a leaf too long", "number % size == 0;", "number % (size + 1) == 0;", joins),
    ("chains: a leaf takes the next one's members", ": all - number < size ? begin + all : to + size};", ": begin + all};", joins),
    ("chains: another KV head's leaves", "return far.sets > 1 ? kv_head : 0;", "return 0;", outputs),
    ("chains: another KV head's chains", "const std::int64_t from = std::int64_t{head} * tokens;", "const std::int64_t from = 0;", joins),

    ("attention: a tile too many without masks", "? by_all / keys : 0", "? by_all / keys + 1 : 0", modes),
    ("attention: listed keys of the future", "far.causal && earliest < far_count ? earliest + 1 : far_count;",
     "far_count;", shapes),
    ("attention: a listed key instead of another", "list_[own.key + key_step * l]", "list_[own.key]", shapes),
    ("attention: a sink too few", "near.sinks < from ? near.sinks : from;", "near.sinks < from ? near.sinks - 1 : from;",
     modes),
    ("attention: sinks beyond the edge", "near.sinks < from ? near.sinks : from;", "near.sinks;", modes),
    ("attention: sinks read after the edge", "row[i] < sinks ? 0 : ahead();", "ahead();", modes),
    ("attention: a sink hides a near key", "return sinks + near_count - keys * near_whole;",
     "return near_count - keys * near_whole;", modes),
    ("correction: no largest one", "gpu.clamp(correction[v], of.most);", "correction[v];", modes),
    ("correction: a quarter of the scale", "scale / log2e / 2", "scale / log2e / 4", modes),
    ("correction: the queries' lower bits lost", "<bfloat16>(variances, query.part[1], correction);",
     "<bfloat16>(variances, query.part[0] & 0, correction);", "hip attention: a correction within*"),
    ("correction: another group's", "eight * of.groups / (Dim / 8)", "eight * of.groups / (Dim / 4)",
     "hip attention: a correction within*"),
    ("correction: another leaf's", "load_8(far.variances.rows + kv_head * far.variances.head + std::int64_t{row}",
     "load_8(far.variances.rows + kv_head * far.variances.head + std::int64_t{place}", modes),
    ("correction: the variances' first parts twice", "lane % 32 * variance_parts + lane / 32 * most_groups", "lane % 32 * variance_parts", modes),
    ("attention: wrong k of a query", "query[s] = load_8(row + 16 * s + gpu.lane() / 32 * 8)",
     "query[s] = load_8(row + 16 * s)",
     modes),
    ("attention: values in the wrong place", "k / 4 % 2 * 8 + k / 8 % 2 * 4", "k / 8 % 2 * 8 + k / 4 % 2 * 4",
     modes),
    ("attention: no mask", "row_32(gpu.lane(), v) < seen ?", "true ?", modes),
    ("attention: a query does not see itself", "(own.listed ? 0 : ahead()) + 1;",
     "(own.listed ? 0 : ahead());", modes),
    ("attention: sums not rescaled", "const float shrink = gpu.exp2((before - reference()) * scale);",
     "const float shrink = 1;", rising),
    ("attention: what rounding takes from large logits", "is_large(rounded) ? __builtin_fmaf(logit, scale, -rounded) : 0.0f",
     "0.0f", sizes),
    ("attention: large logits are forgotten", "gpu.ballot(!(part <= highest_sum)) | large", "gpu.ballot(!(part <= highest_sum))",
     sizes),
    ("attention: halves of a query not alike", "(high | high >> 32) >> lane % 32 & 1", "high >> lane & 1",
     rising),
    ("attention: other queries of a wave matter", "if (((high | high >> 32) >> lane % 32 & 1) != 0) top", "top",
     "hip attention: later tokens change nothing*"),
    ("attention: half of the sum", "state.sum + gpu.shuffle(state.sum, gpu.lane() ^ 32);", "state.sum;", modes),
    ("attention: cluster sizes ignored", "leaves[place].begin + 1)) * far.unit", "leaves[place].begin + 1)) * 0", modes),
    ("attention: a token keeps its own output", "if (rep == token) return;", "return;", modes),
    ("attention: rows that nobody writes", "if (target < 0) return;", "if (target < 0 || target % 16 >= 14) return;", modes),
    ("attention: a token that copies nothing", "if (rep == token) return;", "if (rep == token || token == 69) return;", modes),

    ("opening: log-sum-exps without near keys", "meet_near(gpu, memory, now, query, take_in);", "", opens),
    ("opening: half of the sum", "all.sum + gpu.shuffle(all.sum, gpu.lane() ^ 32)", "all.sum", opens),
    ("opening: another threshold", "std::log2(options_.open_above)", "std::log(options_.open_above)", opens),
    ("opening: keys of the other half", "rows = static_cast<std::uint32_t>(above >> 32);", "rows = static_cast<std::uint32_t>(above);",
     opens),
    ("opening: who asks is not looked at", "(largest - top) * scale > bound) == 0) return 0;", "(largest - top) * scale > bound) != 0) return 0;",
     opens),
    ("opening: NaN asks", "gpu.ballot((logits[v] - top) * scale > bound);", "gpu.ballot(!((logits[v] - top) * scale <= bound));",
     "hip opening: NaN in one head*"),
    ("opening: another chunk's leaves", "now.field = gpu.uniform(begin / opened.chunk)", "now.field = block.chunk", outputs),
    ("opening: a band's list counted from the first token on", "const index_t      band = block.chunk - queries.first / queries.chunk;",
     "const index_t      band = block.chunk;", outputs),
    ("opening: leaves of one open", "leaf.size > 1 ? open(own, place) : close(own, place);", "open(own, place);", opens),
    ("opening: a head of the token that asks sees the leaf", "bits_from(token * group - 32 * n)", "bits_from(token * group + 1 - 32 * n)",
     opens),
    ("opening: the next tile sees it, too", "(token / tile + 1) * tile * group;", "(token / tile + 2) * tile * group;", opens),
    ("opening: the last asker", "if (asker == nobody) asker = ", "asker = ", opens),
    ("opening: tokens not by asker", "if (other.asker < own.asker || (other.asker == own.asker && k < i))", "if (k < i)",
     "hip opening: later tokens*"),
    ("opening: members not counted", "(asked_for ? leaf.size : 0)", "(asked_for ? 1 : 0)", opens),
    ("opening: another leaf's members", "members + ranges[own.place].begin;", "members + ranges[i].begin;", opens),
    ("opening: a token too few of a leaf", "m < own.size; ++m", "m + 1 < own.size; ++m", opens),
    ("opening: keys beyond the last one", "|| place >= own.count) return 0;", ") return 0;", outputs),
    ("opening: closed leaves hide", ": ~rows[place];", ": rows[place];", outputs),
    ("opening: rows that see another leaf's tokens", "rows[opened.places[place]]", "rows[place]", outputs),
    ("opening: rows of another wave", "now.rows_that_see(from, thread / keys, thread % keys);", "now.rows_that_see(from, 0, thread % keys);",
     outputs),
    ("opening: open leaves weigh where all are leaves", "if constexpr (Listed && logits_of::opens) logits_at().mask_rows(gpu, memory.logits, logits);",
     "", outputs),
    ("opening: masks left out", "if (gpu.ballot(see[lane % keys] != ~std::uint32_t{0}) == 0) return;",
     "if (gpu.ballot(see[lane % keys] == 0) == 0) return;", outputs),
    ("opening: no opened tokens", "if (now.opened_tiles() > 0)", "if (now.opened_tiles() > 1)", outputs),
    ("opening: leaves' lists read as the tokens'", "from_list = own.opened ? opened.tokens : from_list;", "", outputs),

    ("decode: tokens before the queries ask", "? 0 : (first - own.begin) * group();", "? 0 : 0;", pieces),
    ("decode: whole tiles depend on who asks", "return of.begin + of.first / group();",
     "return of.begin + (of.first < of.asks ? of.asks : of.first) / group();", pieces),
    ("decode: another chunk's far field", "(field - far.first) * far.sets", "field * far.sets", modes),
    ("decode: another chunk's edge", "edge_of((leaves.first + field / leaves.sets) * chunk, window)",
     "edge_of(field / leaves.sets * chunk, window)", modes),
    ("decode: the far fields of the slice before", "of_.formed.first = first_chunk;", "", pieces),
    ("decode: leaves open that another chunk has", "return (chunk - first) * sets + set;", "return chunk * sets + set;", outputs),
    ("decode: askers of another chunk", "number = first / chunk + gpu.block(),", "number = gpu.block(),", pieces),
    ("decode: another group's far field", "other.rows[queries.base + token] - other.base", "other.rows[token] - other.base * 0",
     pieces),
    ("decode: rows of one call written elsewhere", "row    = (answer - queries.base) * queries.out.heads",
     "row    = answer * queries.out.heads", pieces),

    ("segments: they do not end", "if (at.left == 0) end_segment(gpu, state, at);", "if (at.left == 0) at.left = count;", pieces),
    ("segments: the ones before the last are lost", "if (at.ended > 0) state.join(gpu, kept_by_block(gpu), scale);", "{}",
     pieces),
    ("segments: those in the middle replace the ones before", "if (at.ended > 0) state.join(gpu, kept, scale);", "{}", segments),
    ("segments: a tile too few", "end - first < tiles ? end : first + tiles};", "end - first < tiles ? end : first + tiles - 1};",
     pieces),
    ("segments: near tiles of the first one again", "now.from + keys * seen.begin)", "now.from)", segments),
    ("segments: leaves of the first one again", "now.list() + keys * listed.begin)", "now.list())", segments),
    ("segments: sizes of other leaves", "first + keys * (i + 1), now.far_count}", "keys * (i + 1), now.far_count}", segments),
    ("segments: masked tiles of the first one again", "now.tile_at(masked.begin + i)", "now.tile_at(i)",
     "hip decode: head sizes*"),
    ("segments: two are taken for one", "several = now.tiles() > segments.tiles;", "several = now.tiles() > 2 * segments.tiles;",
     pieces),
    ("segments: one is not the answer", "several = now.tiles() > segments.tiles;", "several = now.tiles() >= segments.tiles;",
     pieces),
    ("segments: a row kept as another's", "row += segment * (queries.out.tokens * queries.out.heads);", "row += segment;",
     pieces),
    ("segments: the first elements again", "store_sums(in.at + place, four(i))", "store_sums(in.at + place, four(0))", pieces),
    ("segments: the larger top is not looked for", "top(__builtin_fmaxf(earlier_top, later_top)) {", "top(earlier_top) {",
     "hip decode: rows that see only*"),
    ("segments: the later one not weighed", "gpu.exp2((later_top - reference) * scale);", "1;",
     segments),
    ("segments: nothing and nothing are not a number", "top == nothing ? 0.0f : top;", "top;",
     "hip decode: rows that see only*"),
    ("segments: one too few merged", "segment < count; segment += ahead", "segment + 1 < count; segment += ahead", pieces),
    ("segments: those beyond the last merged", "if (segment + i < count) all.join", "if (segment + i <= count) all.join",
     pieces),
    ("segments: half of the sum", "all.sums[1] + all.sums[3]", "all.sums[1]", pieces),
    ("segments: blocks for near keys alone", "(near + 31) / 32 + (far + 31) / 32;", "(near + 31) / 32 + (far + 31) / 64;", segments),
    ("segments: the first slice of blocks again", "number_of(first, 0) + skipped;", "number_of(first, 0);", pieces),
    ("segments: rows after a selection that failed", "if (valid && *valid < 0) return;", "",
     "hip decode: after a selection that failed*"),

    ("groups: the first of a group asks elsewhere", "first_ones & ((std::uint64_t{2} <<", "first_ones & ((std::uint64_t{1} <<",
     modes),
    ("groups: another token's near field", ".rows = groups.asker,", ".rows = groups.asks,", modes),
    ("weighted: a token itself is not counted", "clusters.place_from(begin, end, token + 1)",
     "clusters.place_from(begin, end, token)", modes),
]

# The test case that notices when a header's first, second, .. barrier is dropped.
barriers = {
    "attention/ask_leaves.hpp": [opens, opens, opens, opens],
    "attention/attend.hpp": [modes, modes, modes, modes],
    "attention/clusters.hpp": [of_leaves, of_leaves],
    "attention/find_anchors.hpp": [batches, batches, joins, joins],
    "attention/leaves.hpp": [of_leaves],
    "attention/open_leaves.hpp": [opens],
    "gram/tile.hpp": [ragged, ragged],
    "select/advance.hpp": [ragged, "hip cascade: orphans after a block that adds nothing"],
    "select/block_graph.hpp": [ragged, ragged],
    "select/cross_gram.hpp": [paper],
    "select/scan.hpp": [panels, panels, inherited, panels],
}


def without_barriers():
    """A mutant for every barrier of the kernels, with as many lines before it as tell it from the others."""
    texts = {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.hpp"))}
    for name, text in texts.items():
        places, cases = list(re.finditer(r"gpu\.barrier\(\);", text)), barriers.get(name, [])
        if len(places) != len(cases):
            sys.exit(f"{name} has {len(places)} barriers, and {len(cases)} test cases are to notice that they are dropped")
        for number, (place, case) in enumerate(zip(places, cases), 1):
            begin = place.start()
            while sum(other.count(text[begin:place.end()]) for other in texts.values()) > 1:
                begin = text.rindex("\n", 0, begin)
            yield (f"{name}: barrier {number} dropped", text[begin:place.end()], text[begin:place.start()], case)


mutants += without_barriers()
