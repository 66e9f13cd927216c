"""Pretrained decoders as they lie on a disk: small, seeded, written by the libraries that write the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tests import tiny as small

TEMPLATE = (
    "{% for m in messages %}<role>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<role>assistant\n{% endif %}"
)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def words(template: str = TEMPLATE, texts: tuple[str, ...] = small.TEXTS) -> Any:
    """A byte-level tokenizer as `AutoTokenizer` reads it: no padding token of its own, as in Llama."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "</s>", "<role>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    if template:
        fast.chat_template = template
    return fast


def llama(folder: Path, seed: int = 0, template: str = TEMPLATE, **changes: Any) -> str:
    """A Llama of four layers with its tokenizer; its embedding has a few more entries than the tokenizer, as Qwen's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = words(template)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    shape = LlamaConfig(**{"vocab_size": len(tokenizer) + 6, "tie_word_embeddings": True, **SIZES, **changes})
    LlamaForCausalLM(shape).save_pretrained(folder)
    return str(folder)


def t5(folder: Path) -> str:
    """A T5 of two layers with a tokenizer."""
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = words(template="")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = T5Config(
        vocab_size=len(tokenizer) + 6, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(shape).save_pretrained(folder)
    return str(folder)


def gguf(folder: str, file: Path) -> str:
    """The Llama in ``folder`` as one GGUF file, as llama.cpp's converter writes it (float32, rotary halves apart)."""
    import numpy as np
    from gguf import GGUFWriter
    from transformers import AutoTokenizer, LlamaForCausalLM

    model, tokenizer = LlamaForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    shape, state = model.config, {n: v.numpy() for n, v in model.state_dict().items()}
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip

    def halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
        return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)

    out = GGUFWriter(file, "llama")
    out.add_context_length(shape.max_position_embeddings)
    out.add_embedding_length(shape.hidden_size)
    out.add_block_count(shape.num_hidden_layers)
    out.add_feed_forward_length(shape.intermediate_size)
    out.add_head_count(shape.num_attention_heads)
    out.add_head_count_kv(shape.num_key_value_heads)
    out.add_rope_dimension_count(shape.hidden_size // shape.num_attention_heads)
    out.add_rope_freq_base(10000.0)
    out.add_layer_norm_rms_eps(shape.rms_norm_eps)
    out.add_vocab_size(shape.vocab_size)
    description = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    listed = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [text for text, _ in listed] + ["<|endoftext|>"]
    tokens += [f"<unused{i}>" for i in range(shape.vocab_size - len(tokens))]
    out.add_tokenizer_model("gpt2")
    out.add_token_list(tokens)
    out.add_token_types([3 if text in ("<s>", "</s>", "<role>") else 1 for text in tokens])
    out.add_token_merges([" ".join(pair) for pair in description["merges"]])
    out.add_bos_token_id(tokenizer.bos_token_id)
    out.add_eos_token_id(tokenizer.eos_token_id)
    out.add_unk_token_id(tokenizer.bos_token_id)
    out.add_pad_token_id(tokenizer.eos_token_id)
    out.add_chat_template(tokenizer.chat_template)
    out.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    out.add_tensor("output_norm.weight", state["model.norm.weight"])
    for index in range(shape.num_hidden_layers):
        for ours, theirs in names.items():
            weight = state[f"model.layers.{index}.{ours}.weight"]
            if ours.endswith("q_proj"):
                weight = halves_apart(weight, shape.num_attention_heads)
            if ours.endswith("k_proj"):
                weight = halves_apart(weight, shape.num_key_value_heads)
            out.add_tensor(f"blk.{index}.{theirs}.weight", weight)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return str(file)
