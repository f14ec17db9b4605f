"""What an evaluation looks like: a page that stands alone (no script, nothing loaded), and a few lines for the terminal."""

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape

from PIL import Image

from curate.manifest import files
from curate.pipelines.evaluate import CREATOR, Evaluation, Measured, rule
from curate.pipelines.evaluate_clips import read_clip
from curate.pipelines.evaluate_curve import Line, curve_svg
from curate.pipelines.evaluate_stats import MOTION, SCORES, Difference, Estimate

SHEET_PICTURES = 3
SHEET_WIDTH = 1600  # px of the page's contact sheet at most
SHEET_QUALITY = 80
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c1f24; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #d6dae0; text-align: right; vertical-align: top }
th:first-child, td:first-child { text-align: left } td small { color: #5b6470 }
.better { color: #12693a; font-weight: 600 } .worse { color: #a3211b; font-weight: 600 }
svg, img { max-width: 100%; height: auto } code { font-size: .9em } .wide { overflow-x: auto }
"""


def write_page(evaluation: Evaluation) -> None:
    """Writes evaluation.html whole or not at all."""
    names = " against ".join(escape(model.name) for model in evaluation.models)
    parts = [
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Evaluation of {names}</title>',
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Evaluation of {names}</h1>",
        *(f"<p>{escape(line)}</p>" for line in _about(evaluation)),
        "<h2>Scores</h2>",
        f'<div class="wide">{_table(evaluation)}</div>',
        f"<p>Mean over pictures, with its {_percent(evaluation)} interval below. {escape(_rule(evaluation))}</p>",
        "<h2>Motion over the bucket that was asked for</h2>",
        curve_svg(_lines(evaluation), _real_motion(evaluation), "motion bucket", "measured motion, % of the diagonal/s"),
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for model in evaluation.models for line in _control(evaluation, model)) + "</ul>",
        *_contact_sheet(evaluation),
        "<h2>Notes</h2>\n<ul>" + "".join(f"<li>{escape(note)}</li>" for note in _notes(evaluation)) + "</ul>",
        f"<p>All numbers: <code>evaluation.json</code>. Each clip: <code>runs.parquet</code>. {escape(CREATOR)}</p>\n</body>\n</html>\n",
    ]
    files.write_file(evaluation.page.absolute(), "\n".join(parts).encode())


def describe(evaluation: Evaluation) -> str:
    """A short table for the terminal, then where things lie."""
    table = [["", *(model.name for model in _old_first(evaluation)), *(["real"] if evaluation.real else [])]]
    if evaluation.comparison is not None:
        table[0] += ["change", ""]
    for cells in _cells(evaluation):
        table.append([cells.name, *(_plain(one) for one in cells.estimates)])
        if evaluation.comparison is not None:
            table[-1] += [_plain(cells.change, signed=True), cells.verdict or ""]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines += [line for model in evaluation.models for line in _control(evaluation, model)]
    return "\n".join([*lines, f"page: {evaluation.page}"])


class _Cells:
    """One line of the table: estimates of the models (before first) and of real windows, and the difference."""

    def __init__(self, name: str, unit: str, estimates: Sequence[Estimate | None], difference: Difference | None) -> None:
        self.name, self.unit, self.estimates = name, unit, tuple(estimates)
        self.change = None if difference is None else difference.change
        self.verdict = None if difference is None else difference.verdict


def _cells(evaluation: Evaluation) -> Iterator[_Cells]:
    """Lines that have a number in them."""
    models, real, differences = _old_first(evaluation), evaluation.real, evaluation.comparison or {}
    spare: list[Estimate | None] = [None] if real is not None else []
    correlations = [*(one.control.correlation for one in models), *spare]
    yield _Cells("motion follows the bucket", "rank correlation", correlations, differences.get("motion_control"))
    yield _Cells("rises at every step", "share of curves", [*(one.control.monotone for one in models), *spare], None)
    for score in SCORES:
        estimates = [one.scores[score.column] for one in models] + ([] if real is None else [real[score.column]])
        if any(one is not None for one in estimates):
            yield _Cells(score.name, score.unit, estimates, differences.get(score.column))
    if evaluation.fvd is not None:
        by_name = {one.name: one.estimate for one in evaluation.fvd.models}
        yield _Cells("Fréchet video distance", "1", [*(by_name[one.name] for one in models), *spare], evaluation.fvd.difference)


def _old_first(evaluation: Evaluation) -> tuple[Measured, ...]:
    return evaluation.models[::-1]


def _table(evaluation: Evaluation) -> str:
    heads = [escape(model.name) for model in _old_first(evaluation)]
    if len(heads) == 2:
        heads = [f"before: {heads[0]}", heads[1]]
    heads += ["real windows"] if evaluation.real is not None else []
    heads += ["change", "verdict"] if evaluation.comparison is not None else []
    rows = ["<tr><th>score</th>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for cells in _cells(evaluation):
        name = escape(cells.name) + (f"<br><small>{escape(cells.unit)}</small>" if cells.unit != "1" else "")
        row = [f"<td>{name}</td>", *(_td(one) for one in cells.estimates)]
        if evaluation.comparison is not None:
            kind = cells.verdict if cells.verdict in ("better", "worse") else ""
            row += [_td(cells.change, signed=True), f'<td class="{kind}">{escape(cells.verdict or "")}</td>']
        rows.append("<tr>" + "".join(row) + "</tr>")
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def _td(one: Estimate | None, signed: bool = False) -> str:
    if one is None:
        return "<td></td>"
    between = "" if one.low is None or one.high is None else f"<br><small>{_number(one.low)} to {_number(one.high)}</small>"
    return f"<td>{_number(one.value, signed)}{between}</td>"


def _plain(one: Estimate | None, signed: bool = False) -> str:
    if one is None:
        return "-"
    between = "" if one.low is None or one.high is None else f" ({_number(one.low)} to {_number(one.high)})"
    return _number(one.value, signed) + between


def _number(value: float, signed: bool = False) -> str:
    text = f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"+{text}" if signed and value > 0 else text


def _percent(evaluation: Evaluation) -> str:
    return f"{100 * evaluation.settings.question.confidence:g} %"


def _about(evaluation: Evaluation) -> Iterator[str]:
    question, knobs = evaluation.settings.question, evaluation.knobs
    origin = f"first frames of windows of {question.data}" if question.data else question.image
    buckets, seeds = (", ".join(map(str, values)) for values in (question.motion_bucket, question.seed))
    yield f"{len(evaluation.pictures)} pictures ({origin}), motion buckets {buckets}, seeds {seeds}."
    for model in evaluation.models:
        lora = f" with {model.network.lora} at {model.network.lora_scale:g}" if model.network.lora else ""
        yield f"{model.name}: {model.network.model}{lora}, weights {model.weights_sha256[:12]}, {model.control.num_clips:,} clips."
    fps = "each window's own rate" if question.data else f"{knobs.fps:g} frames/s"
    guidance = f"guidance {knobs.min_guidance:g} to {knobs.max_guidance:g}"
    same = ", and for each clip the same noise by both models" if len(evaluation.models) == 2 else ""
    yield (f"Asked with {knobs.num_total} frames, {fps}, {knobs.steps} steps, {guidance}, noise augmentation {knobs.noise_aug:g}{same}.")


def _rule(evaluation: Evaluation) -> str:
    if evaluation.comparison is None:
        return ""
    text = rule(evaluation.settings.question.confidence)
    text = f"{text[0].upper()}{text[1:]}."
    verdicts = [one.verdict for one in evaluation.comparison.values() if one.verdict in ("better", "worse", "no clear difference")]
    chance = len(verdicts) * (1 - evaluation.settings.question.confidence)
    by_chance = f" Of {len(verdicts)} verdicts, about {chance:.1f} would be better or worse by chance alone." if verdicts else ""
    return text + by_chance


def _control(evaluation: Evaluation, model: Measured) -> Iterator[str]:
    """What can be said of a model's motion."""
    found = model.control
    if found.num_measured < found.num_clips:
        yield f"{model.name}: motion could be measured in {found.num_measured:,} of {found.num_clips:,} clips"
    if model.buckets is None:
        yield f"{model.name}: no map from motion to bucket: {model.no_map}"
        return
    (low, high), (first, last) = model.buckets.measured or (0.0, 0.0), model.buckets.made_from["measured_buckets"]
    file = evaluation.map_file(model)
    yield f"{model.name}: buckets {first:g} to {last:g} give motion of {low:.3g} to {high:.3g} % of the diagonal/s; map: {file}"


def _notes(evaluation: Evaluation) -> Iterator[str]:
    yield from evaluation.notes
    yield "Flicker, sharpness and likeness to the picture change with motion alone: look at them beside the motion."
    yield "Clips and pictures are one sample; intervals are of the mean over pictures like these, not over single clips."
    if evaluation.fvd is not None:
        yield from dict.fromkeys(one.all.warning for one in evaluation.fvd.models if one.all.warning)


def _lines(evaluation: Evaluation) -> list[Line]:
    colors = ("#d97706", "#1f6feb") if len(evaluation.models) == 2 else ("#1f6feb",)
    lines = []
    for model, color in zip(_old_first(evaluation), colors, strict=True):
        points = [(bucket, one.value, one.low, one.high) for bucket, one in model.control.curve if one is not None]
        lines.append(Line(model.name, color, tuple(points)))
    return lines


def _real_motion(evaluation: Evaluation) -> float | None:
    found = None if evaluation.real is None else evaluation.real[MOTION]
    return None if found is None else found.value


def _contact_sheet(evaluation: Evaluation) -> Iterator[str]:
    """Frames of a few pictures' clips at the lowest, the middle and the highest bucket, as one picture inside the page."""
    from curate.svd.output import SheetRow, sheet_image

    question = evaluation.settings.question
    buckets = dict.fromkeys(question.motion_bucket[place] for place in (0, len(question.motion_bucket) // 2, -1))
    rows = []
    for picture in evaluation.pictures[:SHEET_PICTURES]:
        for bucket in buckets:
            for model in _old_first(evaluation):
                row = model.rows[picture.sha256, question.seed[0], bucket]
                motion = "" if row[MOTION] is None else f"  motion {row[MOTION]:.1f}"
                label = f"run {row['run']}  {picture.name}  {model.name}  bucket {bucket}{motion}"
                rows.append(SheetRow(read_clip(evaluation.out / row["file"]), label))
    image = sheet_image(rows)
    if image.width > SHEET_WIDTH:
        image = image.resize((SHEET_WIDTH, round(image.height * SHEET_WIDTH / image.width)), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=SHEET_QUALITY)
    text = base64.b64encode(data.getvalue()).decode()
    yield f"<h2>Clips</h2>\n<p>Of the first {min(SHEET_PICTURES, len(evaluation.pictures))} pictures, seed {question.seed[0]}.</p>"
    yield f'<img alt="frames of clips" src="data:image/jpeg;base64,{text}">'
