"""The sentences below the figures say what a reader of the tables would say."""

from __future__ import annotations

import pandas as pd

from ctp_lib.claims import seen
from ctp_lib.claims.estimate import Estimate


def sure(value):
    return Estimate(value, {})


def test_what_compression_takes_and_a_prompt_gives_back():
    table = pd.DataFrame(
        {"ppl_none": [10.0, 12.0, 40.0], "ppl": [9.0, 9.5, 20.0], "gain": [sure(0.1), sure(0.23), sure(0.69)]},
        index=["full", "4bit", "75%"],
    )
    told = seen.recovery(table)
    assert "from 10.0 to 12.0 at 4bit, and to 40.0 at 75%" in told and "most at 75% (+0.690 nats per token: 40.0 to 20.0)" in told
    assert told.endswith("least at 4bit (+0.230). With the prompt, 4bit is at least as good as the uncompressed model.")
    assert seen.recovery(table.drop(index="4bit")).endswith("no level is as good as the uncompressed model.")


def over(names, **gains):
    index = pd.MultiIndex.from_tuples([tuple(key.split("/")) for key in gains], names=names)
    return pd.DataFrame({"gain": [sure(gain) for gain in gains.values()]}, index=index)


def test_where_a_prompt_was_taken():
    table = over(
        ["trained_on", "level", "evaluated_on"], **{"c4/75%/c4": 0.5, "c4/75%/ptb": 0.2, "ptb/75%/ptb": 0.3, "ptb/75%/c4": 0.1}
    )
    assert seen.cross_dataset(table, "c4") == "75%: the prompt of c4 gains +0.200 on ptb (a prompt learned on that corpus: +0.300)."
    table = over(["trained_at_level", "level"], **{"a/a": 0.5, "a/b": 0.2, "b/a": -0.3, "b/b": 0.4})
    told = seen.cross_compression(table)
    assert told.startswith(
        "Prompts were used at other levels in 2 cases, and help in 1 of them. The best case is the prompt of a at b (+0.200"
    )
    assert "the prompt learned at b gains +0.400). The worst is the prompt of b at a (-0.300)" in told
    assert "only one level" in seen.cross_compression(table.loc[[("a", "a")]])
    gains = pd.DataFrame(
        {"home": [0.5, 0.3], "on ptb": [0.1, 0.2]},
        index=pd.MultiIndex.from_tuples([("75%", "LoRA"), ("75%", "soft prompt")], names=["level", "name"]),
    )
    assert seen.carried(gains) == "On ptb, soft prompt gains most: +0.20 nats per token (+0.30 at 75%, where it was learned)."


def test_tasks_sizes_steps_and_inputs():
    index = pd.MultiIndex.from_tuples([("t", "3bit"), ("u", "75%")], names=["task", "level"])
    told = seen.tasks(pd.DataFrame({"cost": [sure(0.1), sure(0.3)], "gain": [sure(-0.02), sure(0.05)]}, index=index))
    assert (
        told.startswith("Compression costs most on u at 75%: 30 points.")
        and "by between -2 points (t, 3bit) and +5 points (u, 75%)" in told
    )
    table = pd.DataFrame({"level": ["full", "3bit", "2bit"], "megabytes": [10.0, 4.0, 3.0], "ppl_none": [10.0, 15.0, 90.0]})
    assert seen.sizes(table).endswith(
        "that of 2bit: 3.0 MB, perplexity 90.0. The smallest with at most twice the uncompressed perplexity is 3bit: 4.0 MB, 15.0."
    )
    assert seen.sizes(table.drop(index=1)).endswith("Every level more than doubles the perplexity.")
    step = pd.DataFrame({"method": ["a", "b"], "seconds": [0.1, 0.25], "activation_bytes": [2e6, 3e6]})
    assert (
        seen.step(step) == "Time of one training step, and activations kept for the gradient: a 0.10 s and 2 MB; b 0.25 s and 3 MB."
    )
    rows = [
        ("75%", "x", "own choice", 0.2),
        ("75%", "y", "own choice", 0.4),
        ("75%", "x", "oracle", 0.5),
        ("75%", "y", "oracle", 0.5),
        ("full", "x", "oracle", 9.0),
    ]
    table = pd.DataFrame(
        [{"level": level, "evaluated_on": corpus, "treatment": name, "gain": sure(gain)} for level, corpus, name, gain in rows]
    )
    assert seen.each_input(table) == "75%, mean over the corpora: own choice gains +0.300 and oracle gains +0.500 nats per token."


def test_a_prompt_beside_lora_and_what_it_brings_nearer():
    rows = [("soft_prompt", "5 vectors", 2.1, 9.0), ("soft_prompt", "2 vectors", 2.0, 9.5), ("lora", "8@qv", 1.9, 8.0)]
    table = pd.DataFrame(
        [
            {"level": "75%", "method": method, "point": point, "validation_nll": nll, "ppl": ppl, "ppl_none": 12.0}
            for method, point, nll, ppl in rows
        ]
    )
    assert (
        seen.prompt_or_lora(table)
        == "75%: perplexity 12.0 without a repair; at their best sizes: a prompt (2 vectors) 9.5, LoRA (8@qv) 8.0."
    )
    index = pd.MultiIndex.from_tuples([("75%", "compressed"), ("75%", "compressed + soft prompt")], names=["level", "subject"])
    told = seen.repaired(pd.DataFrame({"nll": [3.0, 2.5], "kl": [1.0, 0.75]}, index=index), ["75%"])
    assert (
        told
        == "75%: the prompt lowers NLL by 0.500 nats per token, and the divergence from the uncompressed model from 1.000 to 0.750."
    )
