"""Mutants of selection and of the cascade, each with the test case that notices it.

Not here, because no test could tell: sketches of other coordinates than those of most energy (slower, as right); vectors of a
row left to the loop behind (slower); largest_estimated_norm (its proof is simpler for it: by Cauchy and Schwarz, a partial sum
overflows only where both squared norms nearly do); norm_of's step upwards (only for a square root that is not rounded
correctly, as -ffast-math may have it).
"""

anything = "random_cases: random cases: every path agrees with the reference"
near_tau, ends = "verdict: verdict: pairs within a few ulps of tau", "verdict: verdict: estimates hold for rows at the ends*"
zero_rows, ones = "verdict: verdict: rows below 2^-30*", "verdict: verdict: a duplicate is covered*"
near_ties = "small_integers: near ties*"
ties, zeros = "small_integers: small integers: ties*", "small_integers: small integers: a product of zero*"
long, right = "select: select: stretches*", "cascade: cascade: from the right state*"

mutants = [
    ("norm: zero rows", "return square < 0x1p-60f;", "return square < 0x1p-58f;", zero_rows),
    ("norm: larger than its square allows", "while (exact_product(norm, norm) > static_cast<double>(square))", "while (false)", ones),
    ("verdict: zero products cover", "return product > 0 && product", "return product >= 0 && product", zeros),
    ("verdict: a product at the threshold does not cover", "product >= scaled_norm * norm;", "product > scaled_norm * norm;",
     near_tau),
    ("verdict: no margin", "static_cast<float>(cols + 20) * 0x1p-22f", "static_cast<float>(cols + 20) * 0x1p-40f", near_tau),
    ("verdict: sure too early", "if (value.product > bound + slack) return true;",
     "if (value.product > bound - slack) return true;", near_tau),
    ("verdict: refused too early", "if (value.product < bound - slack) return false;",
     "if (value.product < bound + slack) return false;", near_tau),
    ("verdict: estimates said to be canonical", "rows.x.cols), false};", "rows.x.cols), true};", near_ties),
    ("verdict: tiles said to be canonical without FMA", "has_fma = contains(Isa, isa::fma);", "has_fma = true;", near_tau,
     "baseline"),
    ("products: last element forgotten", "for (; k < cols; ++k) sum +=", "for (; k + 1 < cols; ++k) sum +=", anything),
    ("products: one sum of four", "(sums[0] + sums[1]) + (sums[2] + sums[3])", "(sums[0] + sums[1]) + (sums[2])", near_tau),
    ("squares: the rest begins too late", "for (index_t rest = k; rest < cols; ++rest)",
     "for (index_t rest = k + 1; rest < cols; ++rest)", anything),
    ("norms: NaN passes", "if (!detail::is_finite(square)) {", "if (false) {", "selection_errors: *"),
    ("nearest: ties to the higher index", "exact_product(product_a, norm_b) > exact_product(product_b",
     "exact_product(product_a, norm_b) >= exact_product(product_b", ties),
    ("nearest: estimates decide", "if (difference > slack || difference < -slack)", "if (true)", near_ties),
    ("nearest: norms ignored", "const float norm_a = rows.norms[a], norm_b",
     "const float norm_a = 1, norm_b", anything),
    ("nearest: the first one found", "return best.position >= 0 && options.assign == assignment::lowest_index;",
     "return best.position >= 0;", anything),
    ("nearest: sure estimates are weighed", "else if (!sure || options.assign == assignment::nearest)", "else if (!sure)",
     anything),

    ("bounds: margin the wrong way", "bounds = {scaled - margin * n - lost,", "bounds = {scaled + margin * n - lost,", near_tau,
     "baseline"),
    ("bounds: spread of sketches ignored", "std::max(all * (1 + 3 * static_cast<double>(margin)) - static_cast<double>(square), 0.0)",
     "0.0", anything),
    ("bounds: low edge too high", "edge(row.low, -row.residual, columns, c)", "edge(row.low, row.residual, columns, c)", anything),
    ("bounds: high edge too low", "edge(row.high, row.residual, columns, c)", "edge(row.high, -row.residual, columns, c)", anything),
    ("panels: blocks of k forget their sums", "return first == 0 ? vec<B>::zero()", "return first >= 0 ? vec<B>::zero()",
     near_tau),
    ("panels: rows of a strip swapped", "tile[lane] = lane >= column && lane < column + count ?",
     "tile[lane] = lane >= column && lane + 1 < column + count ?", anything),

    ("scan: the last representative skipped", "end = std::min(known.count() - origin, strips * width);",
     "end = std::min(known.count() - 1 - origin, strips * width);", anything),
    ("scan: estimates are sure", "sure = Products::canonical ? possible : way.sure(local, row, known.bounds(strip));",
     "sure = possible;", near_tau),
    ("scan: settled rows leave their token", "memory_.token[to] = memory_.token[from];", "", long),
    ("scan: pairs are not counted", "pairs.evaluated += std::int64_t{count} * (end - begin);", "", ties),

    ("block: all earlier tokens count as members", "block.possible[line] & block.joined;", "block.possible[line];", anything),
    ("block: last strip not multiplied", "[](index_t last) { return (last + width - 2) / width; }", "[](index_t last) { return (last - 1) / width; }", anything),
    ("block: members not packed", "way.append(way.known(), places, locals, block.count_joined);",
     "way.append(way.known(), places, locals, block.count_joined / 2);", long),
    ("block: new representatives not scanned by the stretch", "call.now().count > known)", "call.now().count > known + 1000)", ties),
    ("block: evidence kept", "if (ready) evidence = inherited_evidence::none;", "", anything),
    ("block: not scanned alone", "scan_alone(call, stretch, way, stretch_tokens + line);", ";", ties),
    ("walk: another kind of products forgets the set", "append_tokens(way, way.known(), call.now().indices.data(), call.now().count);",
     "append_tokens(way, way.known(), call.now().indices.data(), 0);", long),
    ("walk: not the representative found", "call.represent(i, call.now().indices[best.position]);",
     "call.represent(i, call.now().indices[0]);", ties),

    ("inherit: the stretch's first token is taken for settled", "waits     = old >= stretch.begin;", "waits     = old > stretch.begin;",
     anything),
    ("inherit: uncovered tokens keep theirs", "if (!covered) return false;", "", anything),
    ("inherit: what took its place is not asked", "if (candidate != old) {", "if (false) {", anything),
    ("inherit: every waiting token is covered", "waits     ? (covered ? inherited_evidence::waits_covered : inherited_evidence::waits)",
     "waits     ? inherited_evidence::waits_covered", anything),

    ("paper mode: another product", "products[cross.position[j]], value);", "products[0], value);", anything),
    ("paper mode: nothing is inherited", "if (covered(candidate, value)) {", "if (false) {", anything),
    ("paper mode: the first one found", "k < call.now().count && !call.settled(best); ++k)\n    if (call.now().indices[k] != candidate",
     "k < 1 && !call.settled(best); ++k)\n    if (call.now().indices[k] != candidate", anything),
    ("literal: the upper triangle", "gram[std::int64_t{i} * T + j], value)", "gram[std::int64_t{j} * T + i], value)", anything),

    ("counts: nearest stops early", "return rep == i || assign == assignment::nearest ?", "return rep == i ?", anything),
    ("counts: the one that covers is not counted", "return {positions[j] + 1,", "return {positions[j],", anything),
    ("counts: removals", "report.removals += rep != i;", "report.removals += rep == i;", right),
    ("counts: additions", "report.additions += rep == i;", "report.additions += 1;", right),
    ("counts: inherited checks in paper mode", "report.gram.inherited += !cross || new_candidate;", "++report.gram.inherited;", anything),
    ("counts: the candidate twice, in paper mode", "scan.additions - (new_candidate && met_candidate)", "scan.additions", anything),
    ("counts: the candidate twice", "scan.representatives - met_candidate;", "scan.representatives;", anything),
    ("counts: tokens of a representative", "++now_.counts[position[now_.rep[i]]];", "++now_.counts[position[now_.indices[0]]];",
     anything),
    ("counts: Jaccard without what was removed", "together = report.representatives + report.removals;",
     "together = report.representatives;",
     "cascade: cascade: from any legal state"),
    ("report: Jaccard of what is not common", "const index_t together = a.count() + b.count() - common;",
     "const index_t together = a.count() + b.count();", "representatives: representatives: overlap of known sets"),
    ("report: all pairs", "std::int64_t{tokens} * (tokens - 1) / 2;", "std::int64_t{tokens} * (tokens + 1) / 2;",
     right),
]
