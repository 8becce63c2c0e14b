"""What pieces of work are said to take beside the weights, and what they take: ``python memory_script.py FAMILY``, in bytes, as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace

import families
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from benchmarks import measure
from ctp_lib.compression.base import method_for
from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.machine import preflight, step_cost
from ctp_lib.model.divergence import Teacher
from ctp_lib.recovery import base
from ctp_lib.settings import study
from ctp_lib.settings.experiments import RepairSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study

WINDOW = 256


def settings() -> Study:
    whole = study.load()
    prompts = whole.comparison.repairs["soft_prompt"]
    return replace(
        whole,
        soft_prompt=replace(whole.soft_prompt, training=replace(whole.soft_prompt.training, batch_windows=8)),
        compression=replace(whole.compression, windows=16, window=WINDOW),
        knowledge=replace(whole.knowledge, methods=()),
        comparison=replace(whole.comparison, repairs={"lora": RepairSpec({"8@qv": {"rank": 8}}, (1.0,)), "soft_prompt": prompts}),
    )


def configuration(family: str, width: int, layers: int) -> PretrainedConfig:
    """The family's own of the tests, as large as makes a peak that can be measured."""
    config = families.FAMILIES[family].__class__.from_dict(families.FAMILIES[family].to_dict())
    sizes = {"vocab_size": 8000, "hidden_size": width, "word_embed_proj_dim": width, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": width // 8}
    sizes |= {"max_position_embeddings": 512, "sliding_window": 512, "intermediate_size": 3 * width, "ffn_dim": 3 * width}
    for name, value in sizes.items():
        if hasattr(config, name):
            setattr(config, name, value)
    if hasattr(config, "layer_types"):
        config.layer_types = (config.layer_types * layers)[:layers]
    return config


def work(name: str, network: torch.nn.Module, asked: Study) -> None:
    windows = torch.randint(8000, (8, WINDOW))
    if name == "compress":
        method_for(Level.parse("3bit")).compress(
            network, Level.parse("3bit"), torch.randint(8000, (asked.compression.windows, WINDOW)), asked.compression, None
        )
    elif name == "evaluate":
        prompt = step_cost.soft_prompt(network, asked.soft_prompt.prompt_tokens).prompt().detach()
        perplexity(network, windows, prompt, Teacher(made(network.config)))
        with torch.inference_mode():  # as a task's items are answered
            short = preflight.SHORT_ITEM
            items = torch.randint(8000, (windows.numel() // short, short + asked.soft_prompt.prompt_tokens))
            network.get_decoder()(input_ids=items, use_cache=True)
    else:
        candidate = (
            step_cost.soft_prompt(network, asked.soft_prompt.prompt_tokens)
            if name == "soft_prompt"
            else step_cost.lora(network, base.sized(asked, "lora", {"rank": 8}, 1.0))
        )
        optimizer = torch.optim.AdamW(candidate.trainable, lr=0.0)
        if asked.soft_prompt.loss == "distillation":
            candidate = replace(candidate, teacher=Teacher(made(network.config)))
        for _ in range(2):
            candidate.step(windows, optimizer)


def made(config: PretrainedConfig) -> torch.nn.Module:
    network = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    folder = tempfile.mkdtemp()
    network.config.save_pretrained(folder)  # llmcompressor looks the configuration up where the model came from
    network.config.name_or_path = folder
    return network


def main(family: str) -> None:
    asked, measured, estimate = settings(), {}, {}
    config = configuration(family, 512, 6)
    with preflight.memory.shapes_alone():
        network = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    needed = preflight.needs(network, asked)
    for name in preflight.WORKS:
        work(name, made(configuration(family, 32, 1)), asked)  # what is imported and set up only once
        network = made(config)
        measured[name] = needed.weights + measure.peak_beside(lambda name=name, network=network: work(name, network, asked))
        estimate[name] = needed.memory[name]
        del network
    print(json.dumps({"estimate": estimate, "measured": measured}))


if __name__ == "__main__":
    main(sys.argv[1])
