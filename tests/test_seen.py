"""The sentences below the figures say what a reader of the tables would say."""

from __future__ import annotations

import numpy as np
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
    assert "from 10.0 to 12.0 at 4bit, and to 40.0 at 75%" in told and "by +0.690 nats per token at 75% (40.0 to 20.0)" in told
    assert "and least, by +0.230, at 4bit. A prompt learned on the uncompressed model lowers its NLL by +0.100." in told
    assert told.endswith("With the prompt, 4bit is at least as good as the uncompressed model.")
    one = seen.recovery(table.drop(index="4bit"))
    assert "from 10.0 to 40.0 at 75%. " in one and one.endswith("no level is as good as the uncompressed model.")


def over(names, **gains):
    index = pd.MultiIndex.from_tuples([tuple(key.split("/")) for key in gains], names=names)
    return pd.DataFrame({"gain": [sure(gain) for gain in gains.values()]}, index=index)


def test_where_a_prompt_was_taken():
    table = over(
        ["trained_on", "level", "evaluated_on"], **{"c4/75%/c4": 0.5, "c4/75%/ptb": 0.2, "ptb/75%/ptb": 0.3, "ptb/75%/c4": 0.1}
    )
    told = seen.cross_dataset(table, "c4")
    assert told == "75%: the prompt of c4 lowers the NLL on ptb by +0.200 (that corpus's own prompt: +0.300) nats per token."
    alone = table.xs("c4", level="evaluated_on", drop_level=False).xs("c4", level="trained_on", drop_level=False)
    assert "only one corpus" in seen.cross_dataset(alone, "c4")
    pairs = {"full/full": 0.1, "full/a": 0.02, "full/b": -0.01, "a/full": 9.0, "a/a": 0.5, "a/b": 0.2, "b/a": -0.3, "b/b": 0.4}
    table = over(["trained_at_level", "level"], **pairs)
    told = seen.cross_compression(table, 0.01)
    assert told.startswith(
        "Of 2 transfers between compressed levels, 1 lower the NLL by more than 0.01 nats per token, and 1 raise it by more."
    )
    assert "from a to b (+0.200; the prompt learned at b gains +0.400), the worst from b to a (-0.300)" in told
    assert told.endswith("The control, the uncompressed model's prompt, gains -0.010 to +0.020.")
    assert "not two compressed levels" in seen.cross_compression(table.loc[[("a", "a")]], 0.01)
    names = ["LoRA", "soft prompt", "norms tuned", "temperature"]
    gains = pd.DataFrame(
        {"home": [0.5, 0.4, 0.4, 0.01], "on ptb": [0.1, 0.2, 0.12, 0.01]},
        index=pd.MultiIndex.from_product([["75%"], names], names=["level", "name"]),
    )
    assert seen.carried(gains) == "On ptb, of the gain at 75%, is kept: LoRA 20%, soft prompt 50%."


def test_tasks_sizes_steps_and_inputs():
    index = pd.MultiIndex.from_tuples([("t", "3bit"), ("u", "75%")], names=["task", "level"])
    told = seen.tasks(pd.DataFrame({"cost": [sure(0.1), sure(0.3)], "gain": [sure(-0.02), sure(0.05)], "n": 50}, index=index))
    assert told.startswith("Compression costs most on u at 75%: 30 points.")
    assert told.endswith("by between -2 points (t, 3bit) and +5 points (u, 75%). One answer of 50 is 2.0 points.")
    table = pd.DataFrame({"level": ["full", "3bit", "2bit"], "megabytes": [10.0, 4.0, 3.0], "ppl_none": [10.0, 15.0, 90.0]})
    assert seen.sizes(table).endswith(
        "that of 2bit: 3.0 MB, perplexity 90.0. The smallest with at most twice the uncompressed perplexity is 3bit: 4.0 MB, 15.0."
    )
    assert seen.sizes(table.drop(index=1)).endswith("Every level more than doubles the perplexity.")
    step = pd.DataFrame({"method": ["a", "b"], "seconds": [0.1, 0.25], "activation_bytes": [2e6, 3e6]})
    assert seen.step(step) == "A training step of a takes 0.1 s and keeps 2 MB; b takes 0.25 s and keeps 3 MB."
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
    told = seen.each_input(table, {"75% on x": "all inputs chose the same prompt, p"})
    assert told.startswith("75%, mean over the corpora: own choice gains +0.300 and oracle gains +0.500 nats per token.")
    assert told.endswith("75% on x, all inputs chose the same prompt, p.")


def test_a_prompt_beside_lora_and_what_it_brings_nearer():
    rows = [("soft_prompt", "5 vectors", 2.1, 9.0), ("soft_prompt", "2 vectors", 2.0, 9.5), ("lora", "8@qv", 1.9, 8.0)]
    table = pd.DataFrame(
        [
            {"level": "75%", "method": method, "point": point, "validation_nll": nll, "ppl": ppl, "ppl_none": 12.0}
            for method, point, nll, ppl in rows
        ]
    )
    told = seen.prompt_or_lora(table)
    assert told == "75%: perplexity 12.0 without a repair, 9.5 with a prompt (2 vectors) and 8.0 with LoRA (8@qv)."
    index = pd.MultiIndex.from_tuples([("75%", "compressed"), ("75%", "compressed + soft prompt")], names=["level", "subject"])
    told = seen.repaired(pd.DataFrame({"nll": [3.0, 2.5], "kl": [1.0, 0.75]}, index=index), ["75%"])
    assert told.startswith("75%: with the prompt, the NLL goes from 3.000 to 2.500 nats per token, and the divergence")
    assert told.endswith("from 1.000 to 0.750.")


def test_written_prompts_facts_other_models_and_what_is_nearest():
    index = pd.MultiIndex.from_tuples([("full", "short"), ("75%", "short")], names=["level", "prompt"])
    table = pd.DataFrame({"helped": [0.1, 0.5], "helped_by_neutral": [0.2, 0.45]}, index=index)
    assert seen.hard_prompt(table, 10) == "75%, short: it helps 5 of 10 items, neutral text 4.5."
    rows = {("full", "none"): 0.8, ("3bit", "none"): 0.5, ("75%", "none"): 0.3, ("75%", "soft_prompt"): 0.4}
    facts = {
        ("capital", form, *key): (sure(value - less), 0.25)
        for form, less in (("closed_book", 0), ("in_context", 0.1))
        for key, value in rows.items()
    }
    index = pd.MultiIndex.from_tuples(facts, names=["relation", "form", "level", "method"])
    told = seen.knowledge(pd.DataFrame(facts.values(), columns=["accuracy", "chance"], index=index))
    assert told == (
        "capital: the uncompressed model answers 80 % from memory, 70 % with a true passage. At 75%, 30 % from memory, 40 % with a prompt. "
        "Chance is 25 %."
    )
    index = pd.MultiIndex.from_product([["second"], ["75%"], ["own", "stitched"]], names=["model", "level", "prompt_kind"])
    other = pd.DataFrame({"ppl_none": 59.3, "ppl": [53.8, 70.2]}, index=index)
    assert seen.another_model(other) == "second at 75%: perplexity 59.3 alone, 70.2 with these prompts, 53.8 with its own."
    shared = pd.DataFrame({"shared": [1.0, 2.0], "by_chance": [3.0, 4.0]})
    assert seen.agreement(shared, 0.8).endswith("two prompts share 1.5 on average, and 3.5 by chance.") and "80%" in seen.agreement(
        shared, 0.8
    )
    assert "no prompt names a new token" in seen.agreement(shared, 1.0)


def test_the_best_repair_beside_a_prompt_and_the_best_control():
    rows = [
        ("LoRA", "lora", False, 85.6),
        ("soft prompt", "soft_prompt", False, 152.3),
        ("output bias", "output_bias", True, 215.5),
    ]
    table = pd.DataFrame(
        [{"level": "75%", "name": name, "method": method, "control": control, "best": True, "ppl": ppl, "ppl_alone": 251.3}
         for name, method, control, ppl in rows]
    )  # fmt: skip
    told = seen.every_repair(table)
    assert "LoRA lowers the perplexity most, from 251.3 to 85.6, a soft prompt to 152.3." in told
    assert told.endswith("The best control, output bias, reaches 215.5.")


def test_a_table_for_people_has_intervals_where_there_are_any():
    varies = Estimate(0.5, {"units": np.array([0.4, 0.5, 0.6])})
    table = seen.readable(
        pd.DataFrame({"a": [varies, sure(0.25)], "b": [float("nan"), 0.123456], "c": [12345, 2], "d": ["x", True]})
    )
    low, high = varies.interval()
    assert list(table.a) == [f"0.500 ({low:.3f} to {high:.3f})", "0.250"] and list(table.b) == ["-", "0.1235"]
    assert list(table.c) == ["12,345", "2"] and list(table.d) == ["x", True]
