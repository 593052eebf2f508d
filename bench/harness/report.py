"""report.json: entries, gaps, and what a report must hold to be one."""
import json
import os
import pathlib

KINDS = {"f32": "float", "bf16": "bf16"}
NEAR_FAR_LENGTHS = (2048, 4096, 8192, 16384)

# Every name that a report has as an entry or as a gap.
NAMES = [
    "select_of_peak", "select_vs_gram_1024", "select_vs_gram_4096", "select_bf16_prefilter", "select_adaptive_tau09",
    "cascade_1024", "cascade_4096", "cascade_stable",
    "dense_f32_vs_sdpa", "dense_bf16_vs_sdpa", "rxr_vs_ort_mha",
    *(f"nearfar_{kind}_vs_own_dense_{T}" for kind in KINDS for T in NEAR_FAR_LENGTHS),
    "nearfar_accurate_vs_own_dense_8192", "nearfar_f32_vs_sdpa_8192", "nearfar_bf16_vs_sdpa_8192",
    "far_field_cycles_a_score", "summaries", "leaf_assignment",
    "decode_dense_vs_sdpa", "decode_dense_vs_ggml", "batch_decode",
    "nearfar_threads", "threads_attention", "threads_selection", "time_exponent", "peak_memory", "compile_time",
]

# Those that a report may have besides: other peers of the same kernels.
MORE_NAMES = ["dense_f32_vs_ort_gqa", "decode_dense_vs_openvino",
              *(f"nearfar_{kind}_vs_{peer}_8192" for peer in ("flex", "xattention") for kind in KINDS)]

LABELS = {  # what a person reads, in the order of pictures and tables
    "select_of_peak": "selection on its own",
    "select_vs_gram_1024": "selection, T = 1024, against T × T Gram + scan",
    "select_vs_gram_4096": "selection, T = 4096, against T × T Gram + scan",
    "select_bf16_prefilter": "bf16 prefilter, against own selection in float",
    "select_adaptive_tau09": "selection, τ = 0.9, against own selection in float",
    "cascade_1024": "cascade, T = 1024, against own selection in float",
    "cascade_4096": "cascade, T = 4096, against own selection in float",
    "cascade_stable": "cascade, synthetic, against own selection in float",
    "dense_f32_vs_sdpa": "dense, float, against torch SDPA",
    "dense_f32_vs_ort_gqa": "dense, float, against onnxruntime GQA",
    "dense_bf16_vs_sdpa": "dense, bf16, against torch SDPA",
    "rxr_vs_ort_mha": "r × r, float, against onnxruntime MHA",
    **{f"nearfar_{kind}_vs_own_dense_{T}": f"near + far, {rows}, T = {T}, against own dense"
       for kind, rows in KINDS.items() for T in NEAR_FAR_LENGTHS},
    "nearfar_accurate_vs_own_dense_8192": "near + far, accurate, T = 8192, against own dense",
    **{f"nearfar_{kind}_vs_{peer}_8192": f"near + far, {rows}, T = 8192, against {label}"
       for peer, label in (("sdpa", "torch SDPA"), ("flex", "torch flex_attention"),
                           ("xattention", "OpenVINO XAttention")) for kind, rows in KINDS.items()},
    "far_field_cycles_a_score": "closed far field: time a score, of own dense attention's",
    "summaries": "leaves' sums",
    "leaf_assignment": "leaves by keys: assignment",
    "decode_dense_vs_sdpa": "decoding, dense, one query, against torch SDPA",
    "decode_dense_vs_ggml": "decoding, dense, one query, against ggml",
    "decode_dense_vs_openvino": "decoding, dense, one query, against OpenVINO",
    "batch_decode": "decoding a batch, 2 threads against 1",
    "nearfar_threads": "near + far, 2 threads against 1",
    "threads_attention": "dense attention, 2 threads against 1",
    "threads_selection": "selection, 2 threads against 1",
    "time_exponent": "all stages: time grows as T to the power of",
    "peak_memory": "memory beyond inputs and outputs grows as T to the power of",
    "compile_time": "compiling a file with cascade and attention, against cascada::cascada",
}

FIELDS = {  # name: types
    "name": str, "case": str, "measure": str, "value": float, "target": (float, type(None)),
    "ours": float, "peer": (float, type(None)), "peer_name": (str, type(None)), "ratio": (float, type(None)),
    "of_peak": (float, type(None)), "threads": int, "T": int, "d": (int, type(None)), "heads": (str, type(None)),
    "r": (int, type(None)), "repetitions": int, "spread": float, "series": (list, type(None)),
}

# measure: whether larger is better.
MEASURES = {"ratio": True, "of_peak": True, "of_bandwidth": True, "cost": False, "exponent": False, "seconds": False}


def meets_target(entry):
    """None without a target."""
    if entry["target"] is None:
        return None
    return entry["value"] >= entry["target"] if MEASURES[entry["measure"]] else entry["value"] <= entry["target"]


def variant(entry):
    """What a case says before a colon, if it has one."""
    head, colon, _ = entry["case"].partition(": ")
    return head if colon else ""


def faults(report):
    """What is wrong with a report, as sentences."""
    found = [f"no {part}" for part in ("machine", "peers", "settings", "entries", "gaps") if part not in report]
    if found:
        return found
    for entry in report["entries"]:
        where = f"{entry.get('name')} ({entry.get('case')})"
        if set(entry) != set(FIELDS):
            found.append(f"{where}: fields {sorted(set(entry) ^ set(FIELDS))} are missing or unknown")
            continue
        found += [f"{where}: {field} is {entry[field]!r}" for field, types in FIELDS.items()
                  if not isinstance(entry[field], types)]
        if entry["measure"] not in MEASURES:
            found.append(f"{where}: unknown measure {entry['measure']}")
        numbers = [entry[field] for field in ("value", "ours", "peer", "ratio", "of_peak") if entry[field] is not None]
        if not all(isinstance(number, float) and 0 < number < float("inf") for number in numbers):
            found.append(f"{where}: a number is not positive and finite")
        if len({entry[field] is None for field in ("peer", "peer_name", "ratio")}) != 1:
            found.append(f"{where}: half a peer")
    found += [f"a gap needs a name and a reason: {gap}" for gap in report["gaps"]
              if not (isinstance(gap.get("name"), str) and gap.get("reason"))]
    named = {part.get("name") for part in report["entries"] + report["gaps"]}
    return found + [f"{name} is neither entry nor gap" for name in NAMES if name not in named]


def write(report, path):
    """Whole or not at all."""
    path = pathlib.Path(path)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(scratch, path)


def table(report):
    """One line per entry, for a person."""
    lines = []
    for entry in report["entries"]:
        met = meets_target(entry)
        verdict = "" if met is None else "ok" if met else "BELOW"
        against = f"vs {entry['peer_name']}" if entry["peer_name"] else ""
        target = "" if entry["target"] is None else f"{entry['target']:g}"
        peak = "" if entry["of_peak"] is None else f"{entry['of_peak']:.2f}"
        lines.append(f"{entry['name']:34} {entry['case']:60} {entry['measure']:12} {entry['value']:6.2f} {target:>5} "
                     f"{verdict:5} of_peak {peak:4} ±{entry['spread'] * 100:3.0f} %  {against}")
    lines += [f"{gap['name']:34} gap: {gap['reason']}" for gap in report["gaps"]]
    return "\n".join(lines)
