"""attn_implementation="cascada" for models of transformers, on the CPU.

    import cascada_attention
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="cascada")   # dense
    cascada_attention.use(model, "balanced")                                              # near + far field

README.md beside this file says what it refuses, and when a sequence begins anew.
"""
import logging
import os
import pathlib
import shutil
import sys

import torch

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns where there is CUDA, but no GPU
from torch.utils import cpp_extension
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.masking_utils import causal_mask_function

NAME = "cascada"
PRESETS = ("dense", "accurate", "balanced", "fast")


def load_extension():
    """Compiles the extension, if what it is made of has changed, into CASCADA_BUILD or build/torch/extension.
    CASCADA_CXXFLAGS replaces -O3 -march=native."""
    here = pathlib.Path(__file__).resolve().parent
    root = here.parent.parent
    folder = pathlib.Path(os.environ.get("CASCADA_BUILD", root / "build" / "torch" / "extension"))
    folder.mkdir(parents=True, exist_ok=True)
    flags = os.environ.get("CASCADA_CXXFLAGS", "-O3 -march=native").split()
    if shutil.which("ninja") is None:  # beside the interpreter of a virtual environment that is not activated
        os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # Whatever the flags: torch's headers run loops on its threads only with -fopenmp, and torch brings the library.
    return cpp_extension.load(
        "cascada_torch", [str(here / "extension.cpp")], build_directory=str(folder),
        extra_cflags=["-std=c++20", "-fopenmp", "-DNDEBUG", "-fvisibility=hidden", *flags],
        extra_include_paths=[str(root / "include"), os.environ.get("EIGEN_INCLUDE", "/usr/include/eigen3")])


extension = load_extension()
TYPES = {torch.float32: extension.float32, torch.bfloat16: extension.bfloat16, torch.float16: extension.float16}


def refuse(sentence):
    raise ValueError(f"cascada: {sentence}")


def parts_of(mask_function):
    """What transformers has combined into a mask with and_masks, by the names of the functions."""
    name = mask_function.__qualname__
    if not name.startswith("and_masks."):
        return [name]
    functions = [function for cell in mask_function.__closure__ for function in cell.cell_contents]
    return [part for function in functions for part in parts_of(function)]


SLIDING = ["causal_mask_function", "sliding_window_overlay.<locals>.inner_mask"]


def mask(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, mask_function=causal_mask_function,
         attention_mask=None, **_):
    """None, or how many tokens of padding each sequence begins with, [batch]. Called once for all layers."""
    if mask_function is not causal_mask_function and sorted(parts_of(mask_function)) != SLIDING:
        refuse("the mask is not causal with padding on the left: packed sequences and masks of one's own are not "
               "supported")
    if q_offset + q_length != kv_offset + kv_length:
        refuse("the cache has rows that no token filled: use a DynamicCache")
    if attention_mask is None:
        return None
    seen = attention_mask[:, kv_offset:kv_offset + kv_length].bool()
    if seen.shape != (batch_size, kv_length):
        refuse("attention_mask is not [batch, tokens so far]")
    padding = kv_length - seen.sum(1)
    if not torch.equal(seen, torch.arange(kv_length) >= padding[:, None]):
        refuse("attention_mask has padding that is not on the left")
    return padding if padding.any() else None


def wants_attention_weights(options):
    if options.get("output_attentions"):
        return True
    try:
        from transformers.utils.output_capturing import _active_collector
    except ImportError:
        return False
    return "attentions" in (_active_collector.get() or ())


def check_call(module, query, key, padding, dropout, is_causal, options):
    if dropout:
        refuse("dropout is not supported: call model.eval()")
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        refuse("there are no gradients: call the model under torch.no_grad()")
    if wants_attention_weights(options):
        refuse("output_attentions is not supported: weights are never stored")
    if is_causal is False or (is_causal is None and getattr(module, "is_causal", True) is False):
        refuse("attention that is not causal is not supported")
    if padding is not None and padding.dim() != 1:
        refuse("the mask is not causal with padding on the left: packed sequences and masks of one's own are not "
               "supported")
    for name in ("position_bias", "s_aux"):
        if options.get(name) is not None:
            refuse(f"{name} is not supported")
    if query.dtype not in TYPES:
        refuse(f"rows of {query.dtype} are not supported: float32, bfloat16 and float16 are")


def attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, is_causal=None,
              sliding_window=None, softcap=None, **options):
    """For AttentionInterface: [batch, tokens, heads, head_dim] of [batch, heads, tokens, head_dim], and no weights."""
    check_call(module, query, key, attention_mask, dropout, is_causal, options)
    padding = [] if attention_mask is None else attention_mask.tolist()
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    of_type = TYPES[query.dtype]
    used = getattr(module, "cascada", None)
    if used is None or not used.settings.selects or sliding_window is not None:
        return of_type.attend_densely(query, key, value, padding, scale, softcap, sliding_window), None
    return used.attend(module.layer_idx, of_type, query, key, value, padding, scale, softcap), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)


class Sequences:
    """The states of a cache's sequences. It is kept with the cache, is copied with it, and ends with it."""

    def __init__(self, settings, asked):
        self.settings = settings
        self.asked = asked    # what `use` was asked for
        self.states = None    # of the type of the first rows
        self.tokens = 0       # padding included

    def crop(self, tokens):
        if self.states is not None and tokens < self.tokens:
            self.states.drop_last(self.tokens - tokens)
        self.tokens = tokens


class Used:
    """A model with a preset. `costs` and `bytes` tell of the sequences that were attended to last."""

    def __init__(self, model, settings, asked):
        self.settings = settings
        self.asked = asked
        self.sequences = None
        self.residual = None
        layers = decoder_layers(model)
        self.modules = [part for layer in layers for part in attention_parts(layer)]
        for part in self.modules:
            part.cascada = self
        self.hooks = [layer.register_forward_pre_hook(self.enter(index), with_kwargs=True)
                      for index, layer in enumerate(layers)]

    def enter(self, index):
        def hook(_, arguments, named):
            self.residual = arguments[0] if arguments else named["hidden_states"]
            if index == 0:
                self.begin(next((x for x in (*arguments, *named.values()) if isinstance(x, Cache)), None))
        return hook

    def begin(self, cache):
        """A pass begins anew where there is no cache, or one that holds no tokens; else it goes on with the cache's."""
        if not self.settings.selects:
            return  # dense attention knows nothing of earlier calls
        tokens = 0 if cache is None else int(cache.get_seq_length())
        if tokens == 0:
            self.sequences = Sequences(self.settings, self.asked)
            if cache is not None:
                cache.cascada = self.sequences
            return
        known = getattr(cache, "cascada", None)
        if known is None or known.asked != self.asked:
            refuse("the cache was filled by other attention")
        known.crop(tokens)
        self.sequences = known

    def attend(self, layer, of_type, query, key, value, padding, scale, softcap):
        if self.sequences is None:
            refuse("the layer was called outside of its model")
        own = self.sequences
        if own.states is None:
            own.states = of_type.Sequences(own.settings)
        result = own.states.attend(layer, query, key, value, self.residual, padding, scale, softcap)
        own.tokens = key.shape[2]
        return result

    @property
    def costs(self):
        """Keys read, and keys that dense attention reads, summed over rows and KV heads; mass, closed leaves' share of
        the softmax, summed over far_rows rows. None where no layer has selected."""
        states = self.sequences and self.sequences.states
        return states and states.costs

    @property
    def bytes(self):
        states = self.sequences and self.sequences.states
        return states.bytes if states else 0

    def remove(self):
        for hook in self.hooks:
            hook.remove()
        for part in self.modules:
            del part.cascada


def attention_parts(layer):
    return [part for part in layer.modules() if hasattr(part, "layer_idx")]


def decoder_layers(model):
    count = model.config.get_text_config().num_hidden_layers
    for part in model.modules():
        if isinstance(part, torch.nn.ModuleList) and len(part) == count and all(map(attention_parts, part)):
            return part
    refuse(f"the model has no list of {count} layers")


def use(model, preset="balanced", features="residual", **options):
    """Lets a model attend by a preset from its next prompt on. Returns a handle, whose remove() undoes it.

    features  what is selected on: "residual", the rows that enter a layer, by the cascade; "keys", each KV head's own
    options   of Settings: threshold, window, chunk, sink_tokens, leaf, leaf_threshold, moments, open_above, tile
    """
    if preset not in PRESETS:
        refuse(f"there is no preset {preset}; there are {', '.join(PRESETS)}")
    if features not in ("residual", "keys"):
        refuse(f"there are no features {features}; there are residual and keys")
    settings = extension.Settings(preset)
    settings.features = getattr(extension.Features, features)
    for name, value in options.items():
        if name.startswith("_") or name in ("features", "selects", "check") or not hasattr(settings, name):
            refuse(f"there is no option {name}")
        setattr(settings, name, value)
    settings.check()
    before = next((part.cascada for part in model.modules() if hasattr(part, "cascada")), None)
    if before is not None:
        before.remove()
    model.set_attn_implementation(NAME)
    if model.config.get_text_config()._attn_implementation != NAME:  # transformers has only warned
        refuse("the model's attention does not go through transformers' AttentionInterface")
    return Used(model, settings, (preset, features, options))
