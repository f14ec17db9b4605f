"""The commands. Thin: each imports what it needs when it is called, so that `--help` costs nothing.

Exit codes: 0 done; 1 something is wrong that the message names (configuration, input, weights, damage, no clip kept, too many sources
failed); 2 the command line itself; 130 stopped with Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curate import __version__
from curate.errors import ConfigError, CurateError
from curate.standard_input import detached

if TYPE_CHECKING:
    from curate.models import Weight

EPILOG = """\
key=value words change the configuration:  clips.max_clip_s=8  scorers.text.reader=craft  rules.much_text=null  rules.low_motion.min=0.1
`curate config schema` lists every key with its unit and range.

exit codes: 0 done; 1 an error that the message names, no clip kept, or too many sources failed; 2 wrong usage; 130 stopped with Ctrl-C
"""


EXAMPLES = {
    "run": ("curate run quickstart input=/videos output=/manifests/my-set",),
    "plan": ("curate plan quickstart input=/videos",),
    "decide": (
        "curate decide /manifests/my-set rules.much_text.max=0.04",
        "curate decide /manifests/my-set rules.low_motion.min_percentile=25 --refit",
    ),
    "status": ("curate status /manifests/my-set",),
    "verify": ("curate verify /manifests/my-set",),
    "retry": ("curate retry /manifests/my-set --reason NotMedia",),
    "stats": ("curate stats /manifests/my-set motion_speed text_area_max",),
    "show": ("curate show /manifests/my-set film.mp4",),
    "export": (
        "curate export /manifests/my-set layout=webdataset out=/sets/my-set --dry-run",
        "curate export /manifests/my-set layout=huggingface out=/sets/hub val_fraction=0.05",
    ),
    "config list": ("curate config list",),
    "config validate": ("curate config validate lvd clips.max_clip_s=8",),
    "config show": ("curate config show lvd > my.yaml",),
    "config schema": ("curate config schema --layout webdataset --markdown",),
    "svd finetune": ("curate svd finetune svd_lora data=/manifests/my-set out=runs/lora",),
    "svd generate": ("curate svd generate photo.jpg model=runs/svd_tiny_model size=64x64 max_guidance=1",),
    "svd evaluate": ("curate svd evaluate svd_evaluate model=runs/svd_tiny_model data=/manifests/my-set size=64x64 max_guidance=1",),
    "svd tiny": ("curate svd tiny runs/svd_tiny_model data=demo/manifest",),
    "models list": ("curate models list",),
    "models pull": ("curate models pull lvd",),
}
"""Printed below each command's `--help`; a test runs them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    if (refusal := refused_platform(sys.platform)) is not None:
        print(refusal, file=sys.stderr)
        return 2
    args = _parse(argv)
    try:
        with detached():  # no command reads it, and nothing that one starts shall
            code: int = args.call(args)
        sys.stdout.flush()
        return code
    except CurateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped. What was committed stays; the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        import platform

        versions = f"curate {__version__}, Python {platform.python_version()}, {platform.system()}"
        error.add_note(f"This is a bug in curate ({versions}). Please report it with the trace above.")
        raise


def refused_platform(platform: str) -> str | None:
    """Returns what to do where this system cannot run the commands (locks, killed workers and their pipes are POSIX'); None elsewhere."""
    if platform == "win32":
        return "curate does not run on Windows itself; use WSL: wsl --install, then pip install curate-video inside it"
    return None


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    args, extra = parser.parse_known_args(argv)
    # argparse gives up on words that follow an option; they are words all the same.
    words = [word for word in extra if "=" in word and not word.startswith("-")]
    if len(words) < len(extra) or (extra and not hasattr(args, "words")):
        unknown = next(word for word in extra if word not in words or not hasattr(args, "words"))
        parser.error(f"unknown argument {unknown!r}; see `{parser.prog} {args.command} --help`")
    if extra:
        args.words = [*args.words, *extra]
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="curate",
        description="Curate raw video into training data: one decode pass, a Parquet manifest, a reason for every drop.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"curate {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, call: Any, text: str, *arguments: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(call=call)
        for argument in arguments:
            _ARGUMENTS[argument](command)
        return command

    run = add("run", _run, "curate the videos that a configuration names; started again, it does only what is missing", "config", "words")
    add("plan", _plan, "estimate time, disk and yield of a run from a seeded pilot on some of its sources", "config", "words")
    decide = add("decide", _decide, "apply changed rules to a manifest; opens no video", "dir", "words")
    decide.add_argument("--refit", action="store_true", help="fit percentiles anew instead of using the numbers frozen in policy.json")
    decide.add_argument("--config", metavar="FILE", help="take the rules from this configuration instead of the last run's")
    add("status", _status, "say how far a manifest is", "dir")
    add("verify", _verify, "check every file of a manifest against its checksum", "dir")
    retry = add("retry", _retry, "try the quarantined and failed sources of a manifest again", "dir", "words")
    retry.add_argument("--reason", metavar="KIND", help="only those with this kind of fault, as `curate status` lists them")
    for command in (run, retry):
        command.add_argument("--yes", action="store_true", help="scan sources again without asking where settings of the pass have changed")
    stats = add("stats", _stats, "print the summary of a manifest and the distribution of every column", "dir")
    stats.add_argument("columns", nargs="*", metavar="COLUMN", help="only these columns")
    show = add("show", _show, "print everything that is known of one clip or one source", "dir")
    show.add_argument("key", help="clip_id or the beginning of one, or a source_key")
    export = add("export", _export, "write the kept clips of a manifest as a data set that a trainer reads", "dir", "words")
    export.add_argument("--dry-run", action="store_true", help="say how many clips, hours and gigabytes it would be; writes nothing")
    export.add_argument("--config", metavar="FILE", help="YAML file with any of the keys; words change it")
    export.epilog = "layout= and out= must be given. Keys of a layout: docs/export.md, or `curate config schema --layout NAME --markdown`"
    _add_svd(commands)
    _add_config(commands)
    _add_models(commands)
    for name, examples in EXAMPLES.items():
        _show_examples(commands, name.split(), examples)
    return parser


def _show_examples(commands: Any, names: Sequence[str], examples: Sequence[str]) -> None:
    """Adds examples to the help of the command of this name, which may be an action of another."""
    command = commands.choices[names[0]]
    if len(names) > 1:
        [actions] = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
        command = actions.choices[names[1]]
    heading = "examples" if len(examples) > 1 else "example"
    lines = [*([command.epilog, ""] if command.epilog else []), f"{heading}:", *(f"  {line}" for line in examples)]
    command.epilog = "\n".join(lines)
    command.formatter_class = argparse.RawDescriptionHelpFormatter


_ARGUMENTS: dict[str, Any] = {
    "config": lambda command: command.add_argument(
        "config", metavar="CONFIG", help="YAML file, or name of a shipped one (`curate config list`)"
    ),
    "words": lambda command: command.add_argument("words", nargs="*", metavar="key=value", help="changes to the configuration"),
    "dir": lambda command: command.add_argument("dir", metavar="DIR", help="folder of a manifest"),
}


def _add_config(commands: Any) -> None:
    config = commands.add_parser("config", help="list, check, print or describe configurations")
    actions = config.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="names of the shipped configurations").set_defaults(call=_config_list)
    validate = actions.add_parser("validate", help="report everything that is wrong with a configuration")
    show = actions.add_parser("show", help="print a configuration with every default filled in")
    schema = actions.add_parser("schema", help="print the JSON schema: every key with its unit, range and default")
    for action, call in ((validate, _config_validate), (show, _config_show)):
        action.set_defaults(call=call)
        _ARGUMENTS["config"](action)
        _ARGUMENTS["words"](action)
    schema.set_defaults(call=_config_schema)
    schema.add_argument("--layout", metavar="NAME", help="the keys of `curate export` with this layout instead")
    schema.add_argument("--markdown", action="store_true", help="the same as a table for people")


def _add_svd(commands: Any) -> None:
    svd = commands.add_parser("svd", help="fine-tune Stable Video Diffusion on curated clips, and make clips with it")
    actions = svd.add_subparsers(dest="action", metavar="ACTION", required=True)
    finetune = actions.add_parser("finetune", help="train on a manifest or an export; started again, it goes on from the last checkpoint")
    finetune.set_defaults(call=_svd_finetune)
    _ARGUMENTS["config"](finetune)
    finetune.epilog = "several GPUs: under torchrun, or engine=ray workers=8 (Ray Train). Every key: docs/svd.md"
    generate = actions.add_parser("generate", help="make clips from pictures")
    generate.set_defaults(call=_svd_generate)
    generate.add_argument("input", metavar="INPUT", help="a picture, a YAML file, or a shipped one by name: svd_generate")
    evaluate = actions.add_parser("evaluate", help="measure what a model makes: motion against the asked bucket, and before against after")
    evaluate.set_defaults(call=_svd_evaluate)
    _ARGUMENTS["config"](evaluate)
    tiny = actions.add_parser("tiny", help="make a model of a few layers, to try fine-tuning and generating on a CPU")
    tiny.set_defaults(call=_svd_tiny)
    tiny.add_argument("out", metavar="OUT", help="folder that is written; data= names the manifest or export whose frames its VAE learns")
    for action in (finetune, generate, evaluate, tiny):
        _ARGUMENTS["words"](action)


def _add_models(commands: Any) -> None:
    models = commands.add_parser("models", help="list or get the weights that scorers use")
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every known weight, and where it lies on this machine")
    listing.set_defaults(call=_models_list)
    listing.add_argument("--models", metavar="FOLDER", help="also search this folder")
    pull = actions.add_parser("pull", help="get weights")
    pull.set_defaults(call=_models_pull)
    pull.add_argument("names", nargs="+", metavar="NAME", help="a weight by its name, or a configuration: all that it needs")
    pull.add_argument("--to", metavar="FOLDER", help="put them here instead of the cache folder")


def _run(args: argparse.Namespace) -> int:
    from curate.config import load_config

    config = load_config(args.config, args.words)
    from curate.pipelines.curation import run
    from curate.terminal import agreement

    return _ended(run(config, agreement(args.yes)), str(config.output))


def _ended(result: Any, output: str) -> int:
    """Prints a `RunResult`; its failures decide the exit code."""
    from curate.report.summary import Effort, format_summary

    own = [one for one in result.sources if not one.is_earlier]
    effort = Effort(result.seconds, sum(one.num_clips for one in own), sum(one.decoded_s for one in own))
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    print(format_summary(result.summary, output, effort), flush=True)
    for failure in result.failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if result.failures else 0


def _plan(args: argparse.Namespace) -> int:
    from curate.config import load_config

    config = load_config(args.config, args.words)
    from curate.pipelines.plan import plan

    found = plan(config)
    print(f"Sources  {found.num_sources:,}, {found.total_bytes / 1e9:,.3g} GB; headers of {found.num_headers:,} read")
    print(f"Pilot    {found.num_pilot:,} of them, drawn by what their headers predict (seed={config.seed})")
    print("Range    made for 95 %: where that was measured, it held the truth in 9 of 10 pilots or more")
    width = max(len(one.name) for one in found.estimates)
    for one in found.estimates:
        print(f"{one.name:<{width}}  {one.value:>12,.4g}  {one.low:>12,.4g} to {one.high:<12,.4g} {one.unit}".rstrip())
    return 0


def _decide(args: argparse.Namespace) -> int:
    from curate.decide.decide import redecide
    from curate.report.summary import format_summary

    summary = redecide(args.dir, args.words, args.config, args.refit)
    print(format_summary(summary, args.dir))
    if summary.num_kept == 0:
        print("error: no clip was kept", file=sys.stderr)
        return 1
    return 0


def _status(args: argparse.Namespace) -> int:
    from curate.report.status import format_status

    print(format_status(args.dir))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from curate.manifest import Manifest

    num_problems = 0
    for problem in Manifest.open(args.dir).verify():
        num_problems += 1
        print(f"{problem.path}: {problem.what}. {problem.remedy}", flush=True)
    print(f"{args.dir}: {num_problems} problems" if num_problems else f"{args.dir}: every file is what was written")
    return 1 if num_problems else 0


def _retry(args: argparse.Namespace) -> int:
    from curate.pipelines.curation import retry
    from curate.terminal import agreement

    return _ended(retry(args.dir, args.words, args.reason, agreement(args.yes)), args.dir)


def _stats(args: argparse.Namespace) -> int:
    from curate.decide.decide import published_summary
    from curate.report.stats import format_stats
    from curate.report.summary import format_summary

    if not args.columns:
        print(format_summary(published_summary(args.dir), args.dir), end="\n\n")
    print(format_stats(args.dir, args.columns))
    return 0


def _show(args: argparse.Namespace) -> int:
    from curate.report.show import format_clip_or_source

    print(format_clip_or_source(args.dir, args.key))
    return 0


def _export(args: argparse.Namespace) -> int:
    from curate.export.config import load_export
    from curate.report.exports import format_dry_run, format_export

    settings = load_export(args.dir, args.words, args.config)
    from curate.pipelines.export import dry_run, export

    if args.dry_run:
        found = dry_run(settings)
        print(format_dry_run(found, settings.common.layout))
        return 0
    result = export(settings)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    print(format_export(result, settings.common.layout, settings.common.out), flush=True)
    for failure in result.failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if result.failures else 0


def _require_svd(args: argparse.Namespace) -> None:
    from curate.extras import require

    require([(f"curate svd {args.action}", "svd")])


def _svd_finetune(args: argparse.Namespace) -> int:
    _require_svd(args)
    from curate.svd.settings import load_finetune

    settings = load_finetune(args.config, args.words)
    from curate.pipelines.finetune import finetune

    result = finetune(settings, sys.stderr)
    if result.rank:
        return 0  # one of several processes says it
    losses = "" if result.last_validation is None else f", validation loss {result.first_validation:.4f} -> {result.last_validation:.4f}"
    print(f"{result.steps:,} steps{losses}, {result.seconds:.0f} s; weights: {result.weights}")
    return 0


def _svd_generate(args: argparse.Namespace) -> int:
    _require_svd(args)
    from curate.svd.generate_config import load_generate

    settings = load_generate(args.input, args.words)
    from curate.pipelines.generate import describe, generate

    result = generate(settings, sys.stderr)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    print(describe(result))
    return 0


def _svd_evaluate(args: argparse.Namespace) -> int:
    _require_svd(args)
    from curate.svd.evaluate_config import load_evaluate

    settings = load_evaluate(args.config, args.words)
    from curate.pipelines.evaluate import evaluate
    from curate.pipelines.evaluate_page import describe

    evaluation = evaluate(settings, sys.stderr)
    for note in evaluation.notes:
        print(f"note: {note}", file=sys.stderr)
    print(describe(evaluation))
    return 0


def _svd_tiny(args: argparse.Namespace) -> int:
    _require_svd(args)
    from curate.svd.tiny import load_tiny, make_tiny

    print(make_tiny(load_tiny(args.out, args.words), sys.stderr))
    return 0


def _config_list(_: argparse.Namespace) -> int:
    from curate.config_text import shipped

    found = {name: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for name, path in shipped().items()}
    width = max(len(name) for name in found)
    for name, purpose in found.items():
        print(f"{name:<{width}}  {purpose}")
    return 0


def _config_validate(args: argparse.Namespace) -> int:
    from curate.config import load_config
    from curate.report.summary import count

    config = load_config(args.config, args.words)
    print(f"{args.config}: valid; {count(len(config.scorers), 'scorer')}, {count(len(config.rules), 'rule')}")
    return 0


def _config_show(args: argparse.Namespace) -> int:
    import yaml

    from curate.config import load_config
    from curate.config_text import shipped

    if args.config.startswith("svd_") and args.config in shipped():  # has no defaults that are filled in before `curate svd` reads it
        if args.words:
            raise ConfigError(f"config show {args.config}: printed as it is; give {args.words[0]!r} to `curate svd`")
        print(shipped()[args.config].read_text(encoding="utf-8"), end="")
        return 0
    content = load_config(args.config, args.words).model_dump(mode="json")
    print(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120), end="")
    return 0


def _config_schema(args: argparse.Namespace) -> int:
    import json

    from curate import scorers
    from curate.config import config_schema
    from curate.config_problems import key_table

    if args.layout:
        from curate import export
        from curate.export.config import layout_schema

        schema = layout_schema(export.load(args.layout))
    else:
        schema = config_schema(scorers.names())
    print(key_table(schema) if args.markdown else json.dumps(schema, indent=2, ensure_ascii=False))
    return 0


def _models_list(args: argparse.Namespace) -> int:
    from curate.config import Config, weights_folders
    from curate.models.catalog import listing

    lines = listing(weights_folders(Config(models=args.models)))
    width = max(len(line.weight.name) for line in lines)
    for line in lines:
        size = f"{line.weight.size_bytes / 1e6:,.1f} MB" if line.weight.size_bytes else ""
        where = str(line.path) if line.path else f"not here; {line.weight.remedy}"
        print(f"{line.weight.name:<{width}}  {size:>9}  {line.weight.licence:<14}  {where}")
    return 0


def _models_pull(args: argparse.Namespace) -> int:
    from pathlib import Path

    from curate.config_text import located
    from curate.models.catalog import pull

    folder = Path(args.to).expanduser() if args.to else None
    is_config = {given: located(given).suffix in (".yaml", ".yml") for given in args.names}
    names = [name for given in args.names for name in (_weights_of(given) if is_config[given] else [given])]
    for name in dict.fromkeys(names):
        print(f"{name}: {pull(name, folder)}", flush=True)
    return 0


def _weights_of(config_file: str) -> list[str]:
    from curate.config import load_config
    from curate.models import needs

    config = load_config(config_file)
    found: list[Weight] = [weight for entry in config.scorers.values() for weight in needs(entry.scorer)]
    foreign = [weight.name for weight in found if weight.origin is None]
    if foreign:
        raise ConfigError(f"{config_file}: weights of your own have to be put in place by hand: {', '.join(foreign)}")
    return [weight.name for weight in found]
