"""C11: the same prompt on another model."""

from collections.abc import Iterable

import pandas as pd

from ctp_lib.claims.estimate import Rows, gain, grouped, mean_of
from ctp_lib.claims.verdict import Verdict, judge
from ctp_lib.recovery.none import METHOD as NONE


def table(rows: Rows) -> pd.DataFrame:
    """One row another model, level and prompt_kind (own, stitched, untrained): perplexity, and in nats per token the estimates of the ``gain``
    over no prompt and of what it gives ``beyond_untrained`` vectors.
    """
    found, table = grouped(rows, "model", "level", "prompt_kind"), {}
    for (model, level, kind), runs in found.items():
        if kind != NONE.name:
            none, untrained = found[model, level, NONE.name], found[model, level, "untrained"]
            table[model, level, kind] = {
                "ppl_none": none[0]["ppl"],
                "ppl": mean_of(runs, "ppl"),
                "gain": gain(runs, none),
                "beyond_untrained": gain(runs, untrained),
            }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["model", "level", "prompt_kind"])


def verdict(table: pd.DataFrame, margin: float, unfinished: Iterable[str] = ()) -> Verdict:
    """C11: does the stitched prompt lower the perplexity of the first other model, a relative, by more than an untrained one, at every level;
    and that of the further models, which are no relatives? Prompts of ``unfinished`` levels were still learning.
    """
    first, *strangers = table.index.unique("model")
    kinds = {kind: table.loc[first].xs(kind, level="prompt_kind") for kind in ("stitched", "own")}
    nothing = {
        level: "even a prompt learned on that model gives nothing there"
        for level, own in kinds["own"].gain.items()
        if own.mean <= margin
    }
    parts = [
        judge(question, kinds["stitched"][column].to_dict(), margin, silent=nothing, unfinished=unfinished)
        for question, column in (
            (f"lowers the NLL of {first}", "gain"),
            ("lowers it more than an untrained prompt does", "beyond_untrained"),
        )
    ]
    headline = parts[0].told(f"Helps {first}", f"does not help {first}")
    for model in strangers:
        gains = table.loc[model].xs("stitched", level="prompt_kind").gain.to_dict()
        parts.append(
            judge(f"lowers the NLL of {model}, which was trained separately", gains, margin, silent=nothing, unfinished=unfinished)
        )
        headline += f"; on {model}: {parts[-1].outcome}"
    own = ", ".join(f"{effect.mean:+.3f} ({level})" for level, effect in kinds["own"].gain.items())
    gained = [
        f"on {model} the prompt gains {', '.join(f'{cell.estimate:+.3f} ({cell.name})' for cell in part.cells)}"
        for model, part in zip(strangers, parts[2:], strict=True)
        if part.cells
    ]
    figures = "; ".join([f"nats: a prompt learned on {first} itself gains {own}", *gained])
    says = "a prompt helps other models with the same tokenizer and width"
    return Verdict("C11", says, headline, tuple(parts), figures, "16_another_model")
