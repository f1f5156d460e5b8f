"""What a person sees: tables and short sentences. JSON never passes through here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

STATE_COLOURS = {
    "committed": "green",
    "open": "cyan",
    "closing": "yellow",
    "pending": "yellow",
    "degraded": "red",
    "failed": "red",
}
INDEX_NAMES = ("timeseries", "semantic", "attack")
#: What a score and the space behind it take; everything of a result begins there.
INDENT = 7


def _state(name: str) -> Text:
    return Text(name, style=STATE_COLOURS.get(name, ""))


def _clock(text: str | None) -> str:
    """The hour and minute of an RFC 3339 time."""
    return "" if not text else text[11:16]


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _result(console: Console, score: float | None, *paragraphs: Text) -> None:
    """A score, and beside it paragraphs that keep clear of its column."""
    margin = Text(f"{_score(score):<{INDENT}}", style="cyan")
    for paragraph in paragraphs:
        for line in paragraph.wrap(console, max(20, console.width - INDENT)):
            line.rstrip()
            console.print(Text.assemble(margin, line), soft_wrap=True)
            margin = Text(" " * INDENT)


def days(console: Console, chunks: Sequence[Mapping[str, Any]]) -> None:
    """One row a day: how many events, and what each index holds of it."""
    if not chunks:
        console.print("No days yet. A day appears with its first event.")
        return
    # Columns that say nothing today are left out, so that the table fits a terminal.
    counts = [name for name in ("duplicates", "late") if any(chunk[name] for chunk in chunks)]
    table = Table(
        title="Days, and the rows that each index holds of them",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for heading in ("day", "rev", "state", "events", *counts, "seen (UTC)", *INDEX_NAMES):
        right = heading not in {"day", "state", "seen (UTC)"}
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for chunk in chunks:
        table.add_row(
            chunk["day"],
            str(chunk["revision"]),
            _state(chunk["state"]),
            f"{chunk['events']:,}",
            *(f"{chunk[name]:,}" for name in counts),
            f"{_clock(chunk['first_event'])}-{_clock(chunk['last_event'])}",
            *(_rows(chunk["indices"].get(name)) for name in INDEX_NAMES),
        )
    console.print(table)
    for name in INDEX_NAMES:
        made = [i["next"] for c in chunks if (i := c["indices"].get(name) or {}).get("next")]
        if made:
            done = sum(state["state"] == "committed" for state in made)
            console.print(
                f"{name} is being embedded anew by another model: {done} of {len(made)} days; "
                "the rows above answer meanwhile."
            )


def _rows(index: Mapping[str, Any] | None) -> Text:
    if index is None:
        return Text("-")
    if index["state"] == "committed":
        return Text(f"{index['rows']:,}")
    return _state(index["state"])


def day(console: Console, chunk: Mapping[str, Any]) -> None:
    """One day in full."""
    console.print(
        Text.assemble(
            (chunk["day"], "bold"),
            f"  revision {chunk['revision']}  ",
            _state(chunk["state"]),
            f"  {chunk['events']:,} events, {chunk['duplicates']:,} duplicates, "
            f"{chunk['late']:,} late, {chunk['bytes'] / 1e6:,.1f} MB",
        )
    )
    for name, index in chunk["indices"].items():
        line = Text.assemble((f"{name:<12}", "bold"), _state(index["state"]))
        line.append(f"  revision {index['revision'] or '-'}, {index['rows'] or 0:,} rows")
        if index["error"]:
            line.append(f"\n            {index['error']}", style="red")
            line.append(f"\n            {index['attempts']} tries, next at {index['next_retry']}")
        if anew := index["next"]:
            line.append(f"\n            by the next model: {anew['state']}", style="yellow")
            if anew["error"]:
                line.append(f"\n            {anew['error']}", style="red")
        console.print(line)
        coverage = chunk["coverage"].get(name) or {}
        if coverage:
            counts = ", ".join(f"{unit} {count:,}" for unit, count in coverage.items())
            console.print(Padding(Text(f"covered: {counts}", style="dim"), (0, 0, 0, 12)))


def event(console: Console, view: Mapping[str, Any]) -> None:
    """One event: a line per field, then the fields that this release does not know."""
    clock = "its own time" if view["time_is_its_own"] else "the time of its arrival"
    console.print(
        Text.assemble(
            (view["event_id"], "bold"),
            f"  of {view['node'] or 'an unnamed node'}  {view['time']} ({clock})  "
            f"{view['bytes']:,} bytes",
        )
    )
    for path, value in _leaves(view["event"], ""):
        console.print(Text.assemble((f"  {path}", "dim"), f"  {value}"))
    for field in view["unknown"]:
        where = f"{field['path']}." if field["path"] else ""
        told = f"  {field['value']}"
        if "as_float" in field:
            told += f"  (as a float {field['as_float']})"
        name = f"  {where}{field['number']} ({field['wire_type']}, unknown)"
        console.print(Text.assemble((name, "yellow"), told))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path, value


def missing(console: Console, answer: Mapping[str, Any]) -> None:
    """Before an answer: the days that are not in it, why, and what mends that."""
    for gone in answer["missing"]:
        console.print(
            Text.assemble(
                ("not in this answer: ", "red"),
                f"{gone['day']}, index {gone['index']}: {gone['detail']}. {gone['repair']}.",
            )
        )


def similar(console: Console, answer: Mapping[str, Any]) -> None:
    """Days like a day, and why."""
    missing(console, answer)
    if not answer["results"]:
        console.print(f"Nothing to compare {answer['day']} with yet.")
        return
    for result in answer["results"]:
        told = ", ".join(f"{name} {_score(result['by_index'].get(name))}" for name in INDEX_NAMES)
        head = Text.assemble((result["day"], "bold"), "  ", (told, "dim"))
        _result(console, result["score"], head, *map(Text, result["why"]))


def search(console: Console, answer: Mapping[str, Any]) -> None:
    """Behaviours in words: a head with score, time and count, then the behaviour itself."""
    missing(console, answer)
    if not answer["results"]:
        console.print("Nothing found.")
        return
    for result in answer["results"]:
        head = Text.assemble(
            (result["day"], "bold"),
            f"  {_clock(result['first'])} to {_clock(result['last'])} UTC  "
            f"{result['events']:,} {'event' if result['events'] == 1 else 'events'}",
        )
        sources = ", ".join(list(result.get("source_ips") or {})[:2])
        targets = ", ".join(list(result.get("destination_ips") or {})[:2])
        if sources and targets:
            head.append(f"  {sources} to {targets}", style="dim")
        verdicts = _verdicts(result.get("verdicts", {}))
        told = [Text(verdicts, style="dim")] if verdicts else []
        _result(console, result["score"], head, Text(result["text"]), *told)


def _verdicts(verdicts: Mapping[str, int]) -> str:
    """How the detector classified the events of a behaviour, if it did not say one thing of all."""
    if len(verdicts) < 2:
        return ""
    counts: Counter[str] = Counter()
    for verdict, events in verdicts.items():
        counts[verdict.split(",")[0] or "no verdict"] += events
    told = ", ".join(f"{events:,} {verdict}" for verdict, events in counts.most_common())
    return f"verdicts: {told}"


def neighbours(console: Console, answer: Mapping[str, Any]) -> None:
    """Attacks like an event."""
    missing(console, answer)
    if not answer["results"]:
        console.print("Nothing found.")
        return
    for result in answer["results"]:
        head = Text.assemble((result["day"], "bold"))
        head.append(f"  {_clock(result['time'])} UTC  {result['event_id']}")
        head.append(f"  {result.get('classification', '')} {result.get('threat_category', '')}")
        ends = f"  {result.get('source_ip', '')} to {result.get('destination_ip', '')}"
        head.append(f"{ends} port {result.get('destination_port', '')}", style="dim")
        _result(console, result["score"], head)


def novelty(console: Console, answer: Mapping[str, Any]) -> None:
    """How unlike its past each day is."""
    missing(console, answer)
    table = Table(
        title="Novelty (0 ordinary, 1 unlike anything before)",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("day")
    table.add_column("novelty", justify="right")
    for name in INDEX_NAMES:
        table.add_column(name, justify="right")
    for entry in answer["days"]:
        table.add_row(
            entry["day"],
            _score(entry["novelty"]),
            *(_score(entry["by_index"].get(name)) for name in INDEX_NAMES),
        )
    console.print(table)


def verify(console: Console, answer: Mapping[str, Any]) -> None:
    """What was checked and what is wrong."""
    checked = ", ".join(f"{count:,} {what}" for what, count in answer["checked"].items())
    console.print(f"Checked {checked}.")
    if answer["ok"]:
        console.print(Text("Everything is in order.", style="green"))
        return
    table = Table(title="Faults", title_justify="left")
    for heading in ("what", "where", "detail", "repair"):
        table.add_column(heading, overflow="fold")
    for fault in answer["faults"]:
        table.add_row(fault["what"], fault["where"], fault["detail"], fault["repair"])
    console.print(table)


def status(console: Console, picture: Mapping[str, Any], reasons: Sequence[str]) -> None:
    """The running service."""
    service, intake = picture["service"], picture["intake"]
    head = Text("ready", style="green") if not reasons else Text("not ready", style="red")
    console.print(Text.assemble((service["instance"], "bold"), "  ", head))
    for reason in reasons:
        console.print(f"  {reason}")
    if service["state"] != "running":
        days(console, picture["days"])
        return
    registry = picture["registry"]
    state = (
        "connected" if registry["connected"] else f"down ({registry['last_error'] or 'no word'})"
    )
    console.print(f"registry: {registry['kind']}, {state}")
    console.print(
        f"events: {intake['received']:,} received, {intake['journaled']:,} journaled, "
        f"{picture['journal']['durable']:,} durable, {intake['duplicates']:,} duplicates, "
        f"{intake['quarantined']:,} quarantined{_filtered(intake)}"
    )
    table = Table(title="Detectors", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("detector", "address", "link", "received", "lost", "dropped here", "epochs"):
        table.add_column(heading)
    for link in picture["detectors"]:
        losses = link["losses"]
        table.add_row(
            link["detector"],
            link["address"],
            Text("connected", style="green") if link["connected"] else Text("down", style="red"),
            f"{link['received']:,}",
            f"{losses['lost']:,}",
            f"{link['dropped']:,}",
            str(losses["epochs"]),
        )
    console.print(table)
    for link in picture["detectors"]:
        if found := link.get("found"):
            console.print(f"{link['detector']}: {_found(found)}")
    if picture["quarantine"]["reasons"]:
        waiting = ", ".join(f"{n:,} {why}" for why, n in picture["quarantine"]["reasons"].items())
        console.print(f"quarantine: {waiting}")
    days(console, picture["days"])


def _found(found: Mapping[str, Any]) -> str:
    """What the profile says of a detector, and what its messages showed."""
    parts = [
        f"{what} {found[what]} ({_counts(found[f'{what}s']) or 'nothing yet'})"
        for what in ("scheme", "clock")
    ]
    if found["filter"] != "all":
        parts.append(f"filter {found['filter']} ({found['filtered']:,} dropped)")
    if found["ip_byte_order"] != "network":
        parts.append(f"addresses {found['ip_byte_order']}")
    if found["identity"] != "node-id-time":
        parts.append(f"identity {found['identity']}")
    return ", ".join(parts)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def _filtered(intake: Mapping[str, Any]) -> str:
    count = intake.get("filtered", 0)
    return f", {count:,} filtered" if count else ""
