"""Writes a Llama of transformers as a GGUF file, by gguf's own writer and quantisers."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,),
          "IQ3_XXS": (0,), "IQ2_XXS": (0,)}  # fmt: skip
"""Where the 16-bit scales of a block lie, of those kinds that gguf reads and does not write."""


def packed(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """``values`` as ``kind``; of a kind that gguf does not write, blocks of random bytes with sensible scales."""
    if kind.name not in SCALES:
        return gguf.quants.quantize(values, kind)
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    draw = np.random.default_rng(0)
    blocks = draw.integers(0, 256, (values.size // weights, size), dtype=np.uint8)
    for at in SCALES[kind.name]:
        blocks[:, at : at + 2] = draw.uniform(1e-4, 1e-3, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    return blocks.reshape(len(values), -1)


def write(folder: Path, path: Path, quantisation: str = "F32", *, rolled: int = 0, **changed) -> Path:
    """The model in ``folder`` as ``path``. ``changed`` fields of the tokenizer say something else than is true, and ``rolled`` embeddings are
    those of other tokens.
    """
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config, kind = model.config, gguf.GGMLQuantizationType[quantisation]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    said = {
        "tokens": tokenizer.convert_ids_to_tokens(range(config.vocab_size)),
        "merges": [" ".join(pair) for pair in state["merges"]],
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
    } | changed
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(said["tokens"])
    writer.add_token_merges(said["merges"])
    writer.add_token_types([3 if number == tokenizer.eos_token_id else 1 for number in range(config.vocab_size)])
    writer.add_bos_token_id(said["bos"])
    writer.add_eos_token_id(said["eos"])
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight.float().numpy()
        if name == "model.embed_tokens.weight":
            values = np.roll(values, rolled, 0)
        if "q_proj" in name or "k_proj" in name:  # GGUF's order of a head's rotated halves
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        called = name.removesuffix(".weight").replace("model.layers.", "blk.")
        for theirs, ours in NAMES.items():
            called = called.replace(theirs, ours)
        if values.ndim == 2 and quantisation != "F32":
            writer.add_tensor(f"{called}.weight", packed(np.ascontiguousarray(values), kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{called}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
