"""Tables of what `bench.predict` measured, gathered from its result files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_PREDICTORS = ("history", "retrieval", "rank", "encoder", "proxy", "forest", "ensemble")


_BEGIN, _END = "<!-- table -->\n", "<!-- end of table -->"


def put_into(page: Path, table: str) -> None:
    """Puts the tables between the two marks of a page; raises ValueError where it has none."""
    text = page.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no {_BEGIN.strip()} … {_END}")
    page.write_text(f"{before}{begin}{table}{end}{after}")


def written(out: Path, default: str) -> str:
    """Writes results.json and table.md from all result files in `out`/sets; returns the table."""
    results = [json.loads(path.read_text()) for path in sorted((out / "sets").glob("*.json"))]
    rows = [row for result in results for row in result["rows"]]
    (out / "results.json").write_text(json.dumps({"rows": rows, "results": results}, indent=1) + "\n")
    splits = [split for split in ("random", "grouped") if any(result["split"] == split for result in results)]
    parts = [f"### {split} folds\n\n{_table(results, split, default)}{_worth(results, split)}" for split in splits]
    table = "\n\n".join(parts) + "\n"
    (out / "table.md").write_text(table)
    return table


def _table(results: Sequence[dict[str, Any]], split: str, default: str) -> str:
    chosen = [result for result in results if result["split"] == split]
    datasets = sorted({result["dataset"] for result in chosen})
    lines = [
        f"Kendall tau at the first question; difference of `{default}` to the best baseline with its 95 % bootstrap "
        "interval.\n",
        "| set | answers | best baseline | " + " | ".join(_PREDICTORS) + " | difference |",
        "|---|---|---|" + "---|" * (len(_PREDICTORS) + 1),
    ]
    for dataset in datasets:
        group = [result for result in chosen if result["dataset"] == dataset]
        ours = [one for result in group for one in result["compared"] if one["predictor"] == default]
        best = _mean([one["kendall_tau"] - one["difference"] for one in ours])
        taus = [_mean(_values(group, name, 0, "kendall_tau")) for name in _PREDICTORS]
        names = "/".join(sorted({one["best_baseline"] for one in ours}))
        difference = f"{_mean([o['difference'] for o in ours]):+.3f}"
        interval = (
            f"{_mean([o['difference_low'] for o in ours]):+.3f}..{_mean([o['difference_high'] for o in ours]):+.3f}"
        )
        cells = [f"{tau:.3f}" if np.isfinite(tau) else "-" for tau in taus]
        answers = "/".join(sorted({str(result["answers"]) for result in group}))
        cells = [dataset, answers, f"{best:.3f} {names}", *cells, f"{difference} ({interval})"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", _default_table(chosen, datasets, default)]
    return "\n".join(lines)


def _default_table(chosen: Sequence[dict[str, Any]], datasets: Sequence[str], default: str) -> str:
    columns = (
        "set", "R2 at 0", "R2 pooled", "(at most)", "pinball / history at 0", "pooled", "50 %", "80 %", "90 %", "95 %",
        "90 % at 0", "ms",
    )  # fmt: skip
    lines = [
        f"`{default}`: R2 of log(1 + whole length) at 0 tokens and pooled over 0, 50, 100, 200 (at most: if all but "
        "the first question were answered exactly); pinball against `history`; coverage of the intervals, pooled.\n",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    for dataset in datasets:
        group = [result for result in chosen if result["dataset"] == dataset]

        def of(generated: Any, key: str, name: str = default, group: Sequence[dict[str, Any]] = group) -> float:
            return _mean(_values(group, name, generated, key))

        ratios = [of(at, "pinball") / of(at, "pinball", "history") for at in (0, "all")]
        bound = _mean([bound for result in group if (bound := result.get("r2_if_later_known", {}).get(default))])
        cells = [of(0, "r2_log"), of("all", "r2_log"), bound, *ratios]
        cells += [of("all", f"coverage_{share}") for share in (50, 80, 90, 95)]
        cells += [of(0, "coverage_90"), of("all", "ms_per_prediction")]
        lines.append(f"| {dataset} | " + " | ".join(f"{value:.3f}" for value in cells) + " |")
    return "\n".join(lines)


def _worth(results: Sequence[dict[str, Any]], split: str) -> str:
    """The share of the way from fcfs to a predictor that knows each length; "" where nothing was simulated."""
    rows = [
        {**row, "dataset": result["dataset"]}
        for result in results
        if result["split"] == split
        for row in result.get("worth", [])
    ]
    if not rows:
        return ""
    loads = sorted({row["load"] for row in rows})
    names = [name for name in _PREDICTORS if any(row["predictor"] == name for row in rows)]
    policies = "/".join(sorted({f"`{row.get('jct_policy', 'isrtf')}`" for row in rows}))
    lines = [
        f"\n\nSimulated worth: mean JCT with `fcfs` and with every length known (under {policies}), s; then each "
        "predictor's share of that gain in mean JCT / in LS goodput (under `slo`) / of a backlog that is served one by "
        "one in the order of first words.\n",
        "| set | load | fcfs | known | " + " | ".join(names) + " |",
        "|---|---|---|---|" + "---|" * len(names),
    ]
    for dataset in sorted({row["dataset"] for row in rows}):
        for load in loads:
            of = {row["predictor"]: row for row in rows if row["dataset"] == dataset and row["load"] == load}
            gains = ("jct_gain", "ls_gain", "order_gain")
            cells = [" / ".join(_share(of[name].get(gain)) for gain in gains) for name in names if name in of]
            ends = f"{of['fcfs']['jct_mean_s']:.2f} | {of['oracle']['jct_mean_s']:.2f}"
            lines.append(f"| {dataset} | {load:g} | {ends} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _values(group: Sequence[dict[str, Any]], name: str, generated: Any, key: str) -> list[float]:
    return [
        row[key]
        for result in group
        for row in result["rows"]
        if row["predictor"] == name and row["generated"] == generated
    ]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
