"""attn_implementation="cascada" against transformers' own attention, on tiny random models. Called by tests/engine/torch.sh.

Whether numbers are close enough, double precision says: an error may be twice that of eager attention in the same type.
"""
import copy
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file

sys.path.insert(0, sys.argv[1])
import cascada_attention  # noqa: E402
from cascada_attention import TYPES, extension, use  # noqa: E402

torch.manual_seed(1)
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
SMALL = {"window": 16, "chunk": 16, "tile": 8, "leaf": 4}  # a far field from the 33rd token on
VOCABULARY = 61
SHARED = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
LLAMA = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6,
         "num_key_value_heads": 2, "max_position_embeddings": 512, **SHARED}
GPT = {"n_embd": 48, "n_layer": 3, "n_head": 3, "n_positions": 512, **SHARED}
CONFIGS = {
    "gpt2": transformers.GPT2Config(**GPT),
    "gpt2, scale by layer": transformers.GPT2Config(**GPT, scale_attn_by_inverse_layer_idx=True),
    "gptj": transformers.GPTJConfig(**GPT, rotary_dim=8),
    "opt": transformers.OPTConfig(hidden_size=48, ffn_dim=80, num_hidden_layers=3, num_attention_heads=4,
                                  word_embed_proj_dim=48, max_position_embeddings=512, **SHARED),
    "llama": transformers.LlamaConfig(**LLAMA),
    "qwen2": transformers.Qwen2Config(**LLAMA),
    "mistral": transformers.MistralConfig(**LLAMA, sliding_window=None),
    "mistral, sliding": transformers.MistralConfig(**LLAMA, sliding_window=20),
    "gemma2": transformers.Gemma2Config(**LLAMA, head_dim=16, sliding_window=24, attn_logit_softcapping=2.0),
}


def model_of(config, kind=torch.float32, seed=3):
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager").eval()
    for parameter in model.parameters():  # sharper than what models begin with: attention that matters
        parameter.mul_(3.0 if parameter.dim() == 2 else 1.0)
    return model.to(kind)


def tokens_of(length, batch=1, seed=5):
    return torch.randint(2, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def error(logits, exact):
    return (logits.double() - exact).square().mean().sqrt().item()


def test_checkpoints_of_the_example_engine():
    """Those that hold the example engine to transformers: it and transformers with Cascada's attention say the same."""
    golden = pathlib.Path(__file__).parent / "golden"
    kinds = set()
    for file in sorted(golden.glob("**/golden.safetensors")):
        expected = load_file(file)
        if "logits" not in expected or not (file.parent / "model.safetensors").exists():  # an encoder; shards by hand
            continue
        model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32).eval()
        use(model, "dense")
        logits = model(expected["tokens"].long()).logits[0]
        off = (logits - expected["logits"]).abs().max() / expected["logits"].abs().max()
        assert off <= 64 * 2**-24, (file.parent.name, off)  # what golden.hpp allows the engine, and why
        kinds.add(model.config.model_type)
    assert kinds == {"gpt2", "gptj", "opt", "llama", "qwen2", "mistral", "gemma2"}, kinds


def test_dense_is_as_exact_as_eager():
    tokens = tokens_of(150)
    for name, config in CONFIGS.items():
        kinds = TYPES if name in ("llama", "gpt2") else [torch.float32]
        for kind in kinds:
            model = model_of(config, kind)
            exact = copy.deepcopy(model).double()(tokens).logits
            errors = {}
            for implementation in ("eager", "cascada"):
                model.set_attn_implementation(implementation)
                errors[implementation] = error(model(tokens).logits, exact)
            print(f"  {name}, {kind}: {errors}, of {exact.square().mean().sqrt().item():.3g}")
            assert 0 < errors["cascada"] <= 2 * errors["eager"]


def test_everything_open_is_dense():
    """Presets in every architecture, with all leaves open, whatever was selected."""
    tokens = tokens_of(150)
    for name, config in CONFIGS.items():
        if name == "mistral, sliding":
            continue  # layers with a window attend densely in it
        model = model_of(config)
        exact = copy.deepcopy(model).double()(tokens).logits
        limit = 2 * error(model(tokens).logits, exact)
        for features in ("residual", "keys"):
            used = use(model, "balanced", features, open_above=1e-30, **SMALL)
            assert error(model(tokens).logits, exact) <= limit, (name, features)
            assert used.costs["far_rows"] > 0
            used.remove()
        # And with leaves that stay closed the far field is no longer dense.
        used = use(model, "fast", open_above=0.9, **SMALL)
        assert error(model(tokens).logits, exact) > 10 * limit, name
        assert 0 < used.costs["read"] < used.costs["dense"] and used.costs["mass"] > 0 and used.bytes > 0
        used.remove()


def random_rows(kind, heads, tokens, width=16, batch=2, seed=7):
    """About one of seven directions each, so that there are clusters and leaves of several tokens."""
    random = torch.Generator().manual_seed(seed + heads)
    directions = torch.randn(7, heads, width, generator=random)
    rows = directions[torch.randint(7, (batch, tokens), generator=random)]
    return (rows + 0.4 * torch.randn(rows.shape, generator=random)).to(kind).transpose(1, 2)


def settings_of(preset, features="residual", **options):
    settings = extension.Settings(preset)
    settings.features = getattr(extension.Features, features)
    for name, value in options.items():
        setattr(settings, name, value)
    return settings


def attend_in_pieces(kind, settings, ends, padding, threads=2):
    """Two layers of a batch of two sequences, call after call; the last layer's rows."""
    torch.set_num_threads(threads)
    q, k, v = (random_rows(kind, heads, ends[-1]) for heads in (6, 2, 2))
    residual = [random_rows(kind, 1, ends[-1], 24, seed=11 + layer)[:, 0] for layer in range(2)]
    states, rows, begin = TYPES[kind].Sequences(settings), [], 0
    for end in ends:
        for layer in range(2):
            # The cache is new storage after every call, as torch.cat makes it.
            out = states.attend(layer, q[:, :, begin:end], k[:, :, :end].contiguous(), v[:, :, :end].contiguous(),
                                residual[layer][:, begin:end], padding, 0.25, None)
        rows.append(out)
        begin = end
    return torch.cat(rows, 1), states.costs


def test_pieces_give_the_bits_of_one_call():
    whole, pieces = [150], [40, 41, 42, 60, 61, 90, *range(91, 151)]
    for kind in TYPES:
        for features in ("residual", "keys"):
            settings = settings_of("balanced", features, open_above=0.05, **SMALL)
            for padding in ([], [0, 37]):
                want, costs = attend_in_pieces(kind, settings, whole, padding)
                got, _ = attend_in_pieces(kind, settings, pieces, padding)
                assert torch.equal(want, got), (kind, features, padding)
                assert 0 < costs["mass"] < costs["far_rows"]  # leaves, and some of them closed
                alone, _ = attend_in_pieces(kind, settings, whole, padding, threads=1)
                assert torch.equal(want, alone)
                if padding:
                    assert torch.equal(want[1, :37], torch.zeros_like(want[1, :37]))


def test_padding_does_not_matter():
    """A padded sequence's rows are those of the sequence alone, bit for bit, whatever lies in the padding."""
    for kind in TYPES:
        q, k, v = (random_rows(kind, heads, 150) for heads in (6, 2, 2))
        residual = random_rows(kind, 1, 150, 24)[:, 0]
        for rows in (q, k, v, residual):
            rows[1, ..., :37, :] = torch.nan
        alone = [rows[1:, :, 37:] for rows in (q, k, v)]
        dense = TYPES[kind].attend_densely(q, k, v, [0, 37], 0.25, None, None)
        assert torch.equal(dense[1, 37:], TYPES[kind].attend_densely(*alone, [], 0.25, None, None)[0])
        for features in ("residual", "keys"):
            settings = settings_of("balanced", features, open_above=0.05, **SMALL)
            together = TYPES[kind].Sequences(settings).attend(0, q, k, v, residual, [0, 37], 0.25, None)
            single = TYPES[kind].Sequences(settings).attend(0, *alone, residual[1:, 37:], [], 0.25, None)
            assert together.isfinite().all() and torch.equal(together[1, 37:], single[0])


def test_rows_are_read_in_place():
    for kind in TYPES:
        q, k, v = (random_rows(kind, heads, 90) for heads in (6, 2, 2))
        want = TYPES[kind].attend_densely(*(rows.contiguous() for rows in (q, k, v)), [], 0.25, None, None)
        wide = [torch.full((2, 90, rows.shape[1], 40), torch.nan, dtype=kind) for rows in (q, k, v)]
        for room, rows in zip(wide, (q, k, v)):
            room[..., 3:19] = rows.transpose(1, 2)
        views = [room[..., 3:19].transpose(1, 2) for room in wide]
        assert torch.equal(want, TYPES[kind].attend_densely(*views, [], 0.25, None, None))
        one_for_all = k[:, :1].expand(-1, 2, -1, -1)
        assert torch.equal(TYPES[kind].attend_densely(q, one_for_all, one_for_all, [], 0.25, None, None),
                           TYPES[kind].attend_densely(q, one_for_all.contiguous(), one_for_all.contiguous(), [], 0.25,
                                                      None, None))


def by_rows(model):
    """A Llama whose layers compute one token at a time but for attention: torch's bits depend on how many come at
    once."""
    cosines, sines = model.model.rotary_emb(torch.zeros(1), torch.arange(LLAMA["max_position_embeddings"])[None])
    others = model.model.embed_tokens, model.model.rotary_emb
    for part in model.modules():
        if not list(part.children()) and part not in others:  # linear layers, norms, activations
            part.forward = lambda x, each=part.forward: torch.stack(
                [each(row) for row in x.flatten(0, -2)]).unflatten(0, x.shape[:-1])
    model.model.rotary_emb.forward = lambda x, position_ids: (cosines[0][position_ids], sines[0][position_ids])
    return model


def padded(prompts):
    """(tokens, attention_mask, position_ids) with padding on the left."""
    length = max(map(len, prompts))
    tokens = torch.stack([torch.nn.functional.pad(prompt, (length - len(prompt), 0)) for prompt in prompts])
    mask = torch.stack([torch.arange(length) >= length - len(prompt) for prompt in prompts]).long()
    return tokens, mask, (mask.cumsum(1) - 1).clamp(min=0)


def test_decoding_gives_the_bits_of_prefill():
    model, tokens = by_rows(model_of(CONFIGS["llama"])), tokens_of(110)
    cuts = [50, 53, 80, *range(81, 111)]
    for preset, features in (("dense", "residual"), ("balanced", "residual"), ("fast", "residual"), ("fast", "keys")):
        use(model, preset, features, **SMALL)
        whole = model(tokens, use_cache=False).logits
        cache, rows = transformers.DynamicCache(), []
        for begin, end in zip([0, *cuts], cuts):
            rows.append(model(tokens[:, begin:end], cache=cache).logits)
        assert torch.equal(whole, torch.cat(rows, 1)), (preset, features)
        # A cropped cache goes on, and so does a copy of a prompt's.
        cache.crop(-5)
        shared = copy.deepcopy(cache)
        for other in (cache, shared):
            assert torch.equal(model(tokens[:, 105:], cache=other).logits, whole[:, 105:])
        # An emptied cache begins anew.
        cache.reset()
        assert torch.equal(model(tokens[:, :60], cache=cache).logits, whole[:, :60])


def test_padded_batches_are_their_sequences():
    model = by_rows(model_of(CONFIGS["llama"]))
    prompts = [tokens_of(length, seed=length)[0] for length in (70, 41, 57)]
    tokens, mask, positions = padded(prompts)
    for preset in ("dense", "balanced", "fast"):
        use(model, preset, **SMALL)
        together = model(tokens, attention_mask=mask, position_ids=positions).logits
        continued = model.generate(tokens, attention_mask=mask, max_new_tokens=20, do_sample=False)
        for prompt, logits, answer in zip(prompts, together, continued):
            assert torch.equal(logits[-len(prompt):], model(prompt[None]).logits[0]), preset
            alone = model.generate(prompt[None], max_new_tokens=20, do_sample=False)
            assert torch.equal(answer[-20:], alone[0, -20:]), preset
        without = model.generate(prompts[0][None], max_new_tokens=20, do_sample=False, use_cache=False)
        assert torch.equal(continued[0], without[0]), preset


def test_generation_is_that_of_eager():
    for name in ("llama", "gpt2", "mistral, sliding"):
        model = model_of(CONFIGS[name])
        tokens, mask, _ = padded([tokens_of(length, seed=length)[0] for length in (70, 41)])
        want = model.generate(tokens, attention_mask=mask, max_new_tokens=20, do_sample=False)
        use(model, "dense")
        assert torch.equal(want, model.generate(tokens, attention_mask=mask, max_new_tokens=20, do_sample=False)), name


def test_the_cascade_walks_the_layers():
    random = torch.Generator().manual_seed(13)
    rows = torch.randn(1, 24, generator=random) + 0.7 * torch.randn(120, 24, generator=random)
    exact, paper = extension.Cascade(0.7), extension.Cascade(0.7, paper=True)
    for layer in range(3):
        reports = [walk.step(rows) for walk in (exact, paper, extension.Cascade(0.7))]
        assert reports[0]["kept"] == reports[1]["kept"] == reports[2]["kept"]
        assert 1 < reports[0]["representatives"] < 120
        if layer > 0:
            assert reports[0]["savings"] > reports[1]["savings"] and 0 < reports[0]["jaccard"] <= 1
        rows = rows + 0.2 * torch.randn(120, 24, generator=random)


def refused(words, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except ValueError as refusal:
        assert str(refusal).startswith("cascada: ") and words in str(refusal), (words, str(refusal))
        return
    raise AssertionError(f"not refused: {words}")


def test_refusals():
    model, tokens = model_of(CONFIGS["llama"]), tokens_of(50, batch=2)
    rows = [random_rows(torch.float32, heads, 30) for heads in (6, 2, 2)]
    attend = extension.float32.attend_densely
    refused("there is no preset best", use, model, "best")
    refused("there is no preset best", extension.Settings, "best")
    refused("there are no features values", use, model, "fast", "values")
    refused("there is no option budget", use, model, "fast", budget=3)
    refused("options.window is negative", use, model, "fast", window=-1)
    refused("options.open_above does not lie in (0, 1)", use, model, "fast", open_above=2)
    refused("options.threshold does not lie in (0, 1]", use, model, "fast", threshold=0)
    refused("elements are not next to each other", attend, rows[0].transpose(2, 3).contiguous().transpose(2, 3),
            *rows[1:], [], 0.25, None, None)
    refused("k is not of q's type", attend, rows[0], rows[1].half(), rows[2], [], 0.25, None, None)
    refused("q has more tokens than k", attend, rows[0], *(kv[:, :, :20] for kv in rows[1:]), [], 0.25, None, None)
    refused("options.scale is not positive", attend, *rows, [], -1.0, None, None)
    refused("q.heads", attend, rows[0][:, :5], *rows[1:], [], 0.25, None, None)
    refused("padding leaves nothing", attend, *rows, [0, 30], 0.25, None, None)

    for preset in ("dense", "fast"):
        use(model, preset, **SMALL)
        ones = torch.ones(2, 50, dtype=torch.long)
        right, hole = ones.clone(), ones.clone()
        right[1, 40:], hole[1, 5] = 0, 0
        refused("padding that is not on the left", model, tokens, attention_mask=right)
        refused("padding that is not on the left", model, tokens, attention_mask=hole)
        refused("the mask is not causal", model, tokens, attention_mask=torch.zeros(2, 1, 50, 50))
        refused("the mask is not causal", model, tokens, use_cache=False,
                position_ids=torch.cat([torch.arange(25), torch.arange(25)])[None])
        refused("output_attentions", model, tokens, output_attentions=True)
        refused("DynamicCache", model.generate, tokens, max_new_tokens=2, cache_implementation="static")
        with torch.enable_grad():
            refused("no gradients", model, tokens)
        dropping = model_of(transformers.LlamaConfig(**LLAMA, attention_dropout=0.1)).train()
        use(dropping, preset)
        refused("dropout", dropping, tokens)
    double = model_of(CONFIGS["llama"], torch.float64)
    use(double, "dense")
    refused("rows of torch.float64", double, tokens)

    use(model, "fast", **SMALL)
    refused("beam search", model.generate, tokens, max_new_tokens=12, num_beams=3, do_sample=False)
    cache = transformers.DynamicCache()
    model(tokens, cache=cache)
    cache.layers[1].keys = cache.layers[1].keys.flip(0)
    refused("beam search and edited caches", model, tokens[:, :1], cache=cache)
    cache = transformers.DynamicCache()
    model(tokens, cache=cache)
    use(model, "balanced", **SMALL)
    refused("filled by other attention", model, tokens[:, :1], cache=cache)
    use(model, "dense")
    model.generate(tokens, max_new_tokens=4, num_beams=3, do_sample=False)  # dense attention keeps no state


def main():
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            print(name, flush=True)
            test()


if __name__ == "__main__":
    main()
