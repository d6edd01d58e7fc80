"""Every signing backend under the same warm flood: certificates a second, CPU for each.

Writes beside the usual results a table and a picture for docs/backends.md. The drivers, and
OpenBao where it signs, have the cores that the server does not use.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.load.loads import Closed, Warm
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.scenario import Scenario
from benchmarks.scenarios.signers import Signer, every_signer
from benchmarks.scenarios.signing_alone import Alone, sign_alone

_SECONDS: Final = 8.0
_ALONE_SHARE: Final = 0.3  # of the time of a flood
_CONNECTIONS: Final = 4
_IN_FLIGHT: Final = 128  # enough waits for a batch to fill
_PER_S: Final = 1_900
_BATCH_GAIN: Final = 5.0
_TABLE: Final = "backends.md"
_PICTURE: Final = "backends.svg"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What was measured of one backend."""

    name: str
    alone: Alone
    per_s: float
    cpu_us: float


def run(lab: Lab) -> None:
    """Measure."""
    seconds = lab.settings.seconds or _SECONDS
    with every_signer(lab.settings.work / "signers", lab.mesh.ca) as signers:
        lab.trust(signers.roots)
        rows = [_measure(lab, signer, seconds) for signer in signers.every]
    alone = {row.name: row.alone.per_s for row in rows}
    single, batch = (alone[f"openbao_transit, batch {n}"] for n in (1, 100))
    lab.figure_at_least("transit: batch against single calls", batch / single, "x", _BATCH_GAIN)
    _save(rows, lab.settings.work.parent)


def _measure(lab: Lab, signer: Signer, seconds: float) -> _Row:
    alone = sign_alone(signer, lab.settings.work / "alone", seconds * _ALONE_SHARE)
    way = Warm(connections=(lab.settings.connections or _CONNECTIONS) * lab.settings.drivers)
    calls = lab.calls("backends", round(seconds * _PER_S * lab.settings.workers))
    pace = Closed(in_flight=_IN_FLIGHT * lab.settings.workers, seconds=seconds)
    backends = {"measured": dict(signer.settings)}
    with signer.in_environment(), lab.server(issuer=None, backends=backends):
        lab.warm_up(way)
        flood = lab.measure(signer.name, [lab.load("calls", calls, pace, way)])
        lab.check_inventory()
    row = _Row(
        name=signer.name,
        alone=alone,
        per_s=flood.per_s,
        cpu_us=flood.data["server"]["cpu_us"],
    )
    lab.figure(f"{row.name}: certificates", row.per_s, "certificates/s")
    lab.figure(f"{row.name}: server CPU per certificate", row.cpu_us, "us")
    lab.figure(f"{row.name}: signing alone", alone.per_s, "certificates/s")
    lab.figure(f"{row.name}: CPU of signing alone", alone.cpu_us, "us")
    return row


def _save(rows: Sequence[_Row], directory: Path) -> None:
    (directory / _TABLE).write_text(_table(rows))
    (directory / _PICTURE).write_text(_picture(rows))


def _table(rows: Sequence[_Row]) -> str:
    head = (
        "| backend | whole server, certificates/s | its CPU a certificate | signing alone, "
        "certificates/s | its CPU a certificate |\n|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {row.name} | {row.per_s:,.0f} | {row.cpu_us:,.0f} us | {row.alone.per_s:,.0f} | "
        f"{row.alone.cpu_us:,.0f} us |\n"
        for row in rows
    )


def _picture(rows: Sequence[_Row]) -> str:
    """Draw both figures of each backend as bars."""
    style: Mapping[Any, Any] = {"svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(dict(style)):
        figure = Figure(figsize=(9.0, 0.45 * len(rows) + 1.0), layout="constrained")
        rates, costs = figure.subplots(1, 2, sharey=True)
        names = [row.name for row in rows]
        rates.barh(names, [row.per_s for row in rows], color="#1f5fa8")
        rates.set_title("certificates a second, whole server", loc="left")
        costs.barh(names, [row.cpu_us for row in rows], color="#c8501e")
        costs.set_title("server CPU a certificate, us", loc="left")
        rates.invert_yaxis()
        for axes in (rates, costs):
            axes.spines[["top", "right"]].set_visible(False)
            axes.bar_label(axes.containers[0], fmt="{:,.0f}", padding=2)
            axes.margins(x=0.18)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


BACKENDS: Final = Scenario(
    name="backends",
    title="Signing backends",
    help="Every signing backend under the same warm flood, with a real OpenBao and SoftHSM2.",
    run=run,
    short_s=4.0,
    csr="p256",
)
