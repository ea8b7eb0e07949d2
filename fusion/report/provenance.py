"""Where the figures of a page come from: methods with the digests of their weights, data, machine, command."""

from __future__ import annotations

from html import escape

from fusion.report.section import Section
from fusion.results import BenchResult
from fusion.tables import milliseconds
from pipeline.words import counted


def provenance_section(result: BenchResult) -> Section:
    """The last section of the page."""
    methods = {}
    for dataset in result.datasets:
        for card in dataset.methods.values():
            text = f"; text: {card.text}" if card.text else ""
            weights = f"<code>{card.digest}</code>" if card.digest else "–"
            cost = card.cost
            timing = (
                f"median of {cost.runs} after {cost.warmup} to warm up, {cost.threads} thread{'s' * (cost.threads != 1)}, {cost.device}, "
                f"{cost.engine}, {cost.dtype}, p95 {milliseconds(cost.latency_p95_ms)} ms"
                if cost
                else "–"
            )
            source = escape(card.source + text)
            methods[card.title, card.source, card.text, card.digest] = (
                f"<tr><th scope='row'>{escape(card.title)}</th><td>{source}</td><td>{weights}</td><td>{timing}</td></tr>"
            )
    data = "".join(
        f"<tr><th scope='row'>{escape(one.title)}</th><td>{escape(one.split)}, {counted(len(one.keys), 'pair')}</td>"
        f"<td>{escape(one.convention)}</td><td><code>{escape(one.digest)}</code></td></tr>"
        for one in result.datasets
    )
    hardware = ", ".join(f"{escape(key)} {escape(value)}" for key, value in result.machine.items())
    html = f"""
<div class="card text"><div class="scroll"><table><thead><tr><th>method</th><th>source</th><th>SHA-256 of the weights</th>
<th>timing</th></tr></thead><tbody>{"".join(methods.values())}</tbody></table></div>
<h3>Data</h3><div class="scroll"><table><thead><tr><th>data set</th><th>split</th><th>metric convention</th><th>manifest</th></tr>
</thead><tbody>{data}</tbody></table></div>
<h3>Machine</h3><p>{hardware}</p><h3>Command</h3><pre>{escape(result.command)}</pre></div>"""
    return Section(anchor="provenance", title="Where this comes from", html=html)
