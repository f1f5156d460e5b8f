"""The tables of `models evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_METHODS = {
    "chance": "by lot",
    "words": "words (BM25)",
    "meaning": "meaning (cosine)",
    "ranks": "both, by reciprocal rank",
    "weighted": "both, weighted: what search does",
}
_SERIES_ENCODERS = {
    "ours": "ours",
    "random_weights": "random weights",
    "fracast_0": "Fracast-0",
    "z_normalised": "z-normalised",
}
_LANGUAGES = {"en": "English", "es": "Spanish"}


def show(console: Console, answer: Mapping[str, Any]) -> None:
    """Tables for a person; `--json` has every figure."""
    for index, figures in answer.items():
        if "error" in figures:
            console.print(f"{index}: {figures['error']}", style="red")
        else:
            _TABLES[index](console, figures)


def _semantic(console: Console, figures: Mapping[str, Any]) -> None:
    table = Table(title="Search in words", title_justify="left")
    for heading in ("questions", "verdicts", "query", "ranking"):
        table.add_column(heading)
    for heading in ("recall@5", "precision@5", "MRR"):
        table.add_column(heading, justify="right")
    for one in figures["figures"]:
        if one["part"] == "all":
            table.add_row(
                f"{one['questions']} {_LANGUAGES[one['language']]}",
                one["verdicts"],
                one["wording"],
                _METHODS[one["method"]],
                *(f"{one[name]:.3f}" for name in ("recall_at_5", "precision_at_5", "mrr")),
            )
    console.print(table)
    if figures["int8"] is not None:
        for precision in ("fp32", "int8"):
            found = figures["int8"][precision]
            recalls = ", ".join(
                f"{_LANGUAGES[one['language']]} {one['recall_at_5']:.3f}"
                for one in found["figures"]
            )
            console.print(
                f"{precision}: {found['texts_per_second']:.0f} texts/s, recall@5 {recalls}"
            )


def _attack(console: Console, figures: Mapping[str, Any]) -> None:
    table = Table(title="Attack encoder, 5 nearest neighbours", title_justify="left")
    for heading in ("split", "encoder", "ports"):
        table.add_column(heading)
    for heading in ("macro-F1", "labels of 30", "benign or attack", "recall@10"):
        table.add_column(heading, justify="right")
    for split, encoders in figures["splits"].items():
        for encoder, views in (encoders or {}).items():
            for ports, found in (views or {}).items():
                table.add_row(
                    split,
                    encoder,
                    ports.replace("_", " "),
                    f"{found['macro_f1']:.3f}",
                    f"{found['macro_f1_labels_of_30_or_more']:.3f}",
                    f"{found['benign_or_attack_macro_f1']:.3f}",
                    f"{found['recall_at_10']:.3f}" if "recall_at_10" in found else "",
                )
    if table.rows:
        console.print(table)
    rare = Table(title="Attacks among ordinary traffic", title_justify="left")
    rare.add_column("attacks in the day")
    for heading in (
        "recall@10",
        "plain index",
        "missed, in a prototype of their own",
        "found there",
    ):
        rare.add_column(heading, justify="right")
    for one in figures["prevalence"] or ():
        rare.add_row(
            f"{one['prevalence']:.1%} of {one['events']:,}",
            f"{one['recall_at_10']['folded']:.3f}",
            f"{one['recall_at_10']['every_event_a_row']:.3f}",
            f"{one['missed']['prototype_of_own']:.3f}",
            f"{one['missed']['found']:.3f}",
        )
    if rare.rows:
        console.print(rare)
    _not_measured(console, figures)


def _novelty(console: Console, figures: Mapping[str, Any]) -> None:
    table = Table(title="Novelty of made days", title_justify="left")
    for heading in ("past days", "rows"):
        table.add_column(heading)
    levels = ("0.8", "0.9", "0.95", "0.99")
    for heading in (*(f"ordinary >= {level}" for level in levels), "planted >= 0.9", "AUROC"):
        table.add_column(heading, justify="right")
    for one in figures["by_past"]:
        for name, found in one["by_index"].items():
            table.add_row(
                str(one["past"]),
                name,
                *(f"{found['ordinary'][level]:.3f}" for level in levels),
                f"{found['planted']['0.9']:.3f}",
                f"{found['auroc']:.3f}",
            )
    console.print(table)


def _timeseries(console: Console, figures: Mapping[str, Any]) -> None:
    table = Table(title="Time-series encoder, nearest neighbour", title_justify="left")
    table.add_column("problem")
    for heading in _SERIES_ENCODERS.values():
        table.add_column(heading, justify="right")
    rows = {f"planted behaviours, {figures['planted']['days']} days": figures["planted"]}
    rows.update(figures["problems"] or {})
    if figures["problems_mean"] is not None:
        rows["mean of the problems"] = figures["problems_mean"]
    for name, found in rows.items():
        values = (found[encoder] for encoder in _SERIES_ENCODERS)
        table.add_row(name, *("" if value is None else f"{value:.3f}" for value in values))
    console.print(table)
    if figures["forecasts"] is not None:
        console.print(_forecasts(figures["forecasts"]))
    _not_measured(console, figures)


def _not_measured(console: Console, figures: Mapping[str, Any]) -> None:
    for name, reason in figures["not_measured"].items():
        console.print(f"{name} not measured: {reason}", markup=False)


def _forecasts(figures: Mapping[str, Any]) -> Table:
    table = Table(title="Forecasts of 64 steps", title_justify="left")
    table.add_column("series")
    for heading in ("MASE", "seasonal-naive", "WQL", "seasonal-naive"):
        table.add_column(heading, justify="right")
    for name, found in figures.items():
        if found is not None:
            table.add_row(
                f"{name.replace('_', ' ')} ({found['series']})",
                *(
                    f"{found[who][loss]:.3f}"
                    for loss in ("mase", "wql")
                    for who in ("ours", "seasonal_naive")
                ),
            )
    return table


_TABLES = {"semantic": _semantic, "attack": _attack, "timeseries": _timeseries, "novelty": _novelty}
