"""The benchmark's tables in Markdown, from one tally a film."""

from collections.abc import Iterator, Mapping, Sequence

from cuts import negatives
from cuts.score import BANDS, Tally, interval, share

Results = Mapping[str, Sequence[Tally]]


def total(tallies: Sequence[Tally]) -> Tally:
    return sum(tallies, Tally())


def accuracy(results: Results) -> Iterator[str]:
    classes = "all P | R | F1 (95 %) | hard P | R | F1 | gradual P | R | F1 | found P | R | F1 (95 %)"
    yield f"| detector | {classes} | clips | mixed % (95 %) | visibly % |"
    yield "|---" * 16 + "|"
    for name, tallies in results.items():
        whole = total(tallies)
        cells = []
        for key in ("all", "hard", "gradual", "found"):
            precision, recall, f1 = whole.rates(key)
            low, high = interval(tallies, lambda t, key=key: t.rates(key)[2]) if key in ("all", "found") else (0.0, 0.0)
            cells += [f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}" + (f" ({low:.3f} to {high:.3f})" if high else "")]
        low, high = interval(tallies, _mixed)
        cells += [
            str(whole.num_clips),
            f"{_mixed(whole):.2f} ({low:.1f} to {high:.1f})",
            f"{100 * whole.num_visible / max(whole.num_clips, 1):.2f}",
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"


def _mixed(tally: Tally) -> float:
    return 100 * tally.num_mixed / max(tally.num_clips, 1)


def cost(results: Results) -> Iterator[str]:
    yield "| detector | ms a frame | CPU s an hour of video | with decoding | speed beside transnetv2 | with decoding |"
    yield "|---" * 6 + "|"
    full = total(results["transnetv2"]) if "transnetv2" in results else None
    for name, tallies in results.items():
        one = total(tallies)
        hours = one.duration_s / 3600
        cells = [f"{1000 * one.cpu_s / one.num_frames:.2f}", f"{one.cpu_s / hours:.0f}", f"{(one.cpu_s + one.decode_cpu_s) / hours:.0f}"]
        if full is None:
            cells += ["", ""]
        else:
            cells += [f"{full.cpu_s / one.cpu_s:.1f}", f"{(full.cpu_s + full.decode_cpu_s) / (one.cpu_s + one.decode_cpu_s):.1f}"]
        yield f"| {name} | " + " | ".join(cells) + " |"


def recall(results: Results) -> Iterator[str]:
    """Found, whatever its class, by kind and by number of mixed frames."""
    some = total(next(iter(results.values())))
    kinds = sorted({kind for kind, _ in some.by_kind})
    bands = [band for band in BANDS if some.by_band[band, "all"]]
    titles = [f"{kind} ({some.by_kind[kind, 'all']})" for kind in kinds]
    titles += [f"{low}-{high if high < 1000 else ''} frames ({some.by_band[(low, high), 'all']})" for low, high in bands]
    yield "| recall | " + " | ".join(titles) + " |"
    yield "|---" * (len(titles) + 1) + "|"
    for name, tallies in results.items():
        one = total(tallies)
        cells = [f"{share(one.by_kind[kind, 'found'], one.by_kind[kind, 'all']):.2f}" for kind in kinds]
        cells += [f"{share(one.by_band[band, 'found'], one.by_band[band, 'all']):.2f}" for band in bands]
        yield f"| {name} | " + " | ".join(cells) + " |"


def alarms(results: Results) -> Iterator[str]:
    """False alarms by cause; for negatives also how many of them had one."""
    some = total(next(iter(results.values())))
    causes = [kind for kind in negatives.KINDS if some.num_negatives[kind]]
    yield "| false alarms | " + " | ".join(f"{kind} ({some.num_negatives[kind]})" for kind in causes) + " | second report | motion |"
    yield "|---" * (len(causes) + 3) + "|"
    for name, tallies in results.items():
        one = total(tallies)
        cells = [f"{one.causes[kind]} in {one.num_struck[kind]}" for kind in causes]
        yield f"| {name} | " + " | ".join([*cells, str(one.causes["second report"]), str(one.causes["motion"])]) + " |"
