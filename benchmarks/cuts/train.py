"""Trains the judge of the verifying detector (`curate/shots/judge.npz`) and says what it is worth on scenes that it has not seen.

    python benchmarks/cuts/train.py --videos VIDEOS --out OUT [--films 120] [--frames 1000] [--processes 1]

needs scikit-learn beside the development packages. Films are composed as those of the benchmark are, of the tuning half's footage and of
photographs that scikit-image ships, but drawn more widely: faster moves, shots in fast motion, more wipes, mirrored colours; they are not
encoded as videos, each frame as a JPEG instead. Everything that the detector doubts in them is labelled by the truth. The scenes are
dealt to three folds, and a film holds scenes of one fold only. Two sets of trees (cuts, spans) are fitted on two folds and the detector
with them is scored on films of the third, for each fold; the trees in OUT/judge.npz are then fitted on all. Nothing of the test half is
read. Each process holds the footage, 1 GB.
"""

import argparse
import hashlib
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from curate.shots import Transition, transnet, verify
from curate.shots.doubts import Judge
from curate.shots.evidence import NAMES, Doubt
from curate.shots.judge import DEPTH, Trees
from curate.shots.params import Shots
from cuts import compose, footage
from cuts.compose import Join, Marked, Shot, Style, Truth
from cuts.footage import Listed, Piece
from cuts.score import SHORT, Tally, scored

NUM_FOLDS, NUM_TREES, RATE = 3, 300, 0.06
SEED = 4242
TINY = (64, 36)
PHOTOGRAPHS = (
    "astronaut", "camera", "coffee", "chelsea", "coins", "moon", "page", "text", "rocket", "brick", "grass", "gravel", "clock",
    "hubble_deep_field", "immunohistochemistry", "retina",
)  # fmt: skip
"""Names in `skimage.data`. They are moved over: pictures without motion of their own."""
PHOTO_FRAMES, PHOTO_WEIGHT, PHOTO_SHARE = 60, 30, 0.35
PARAMS = Shots(detector="verify")


@dataclass(eq=False)
class Made:
    """A film as the detector sees it."""

    truth: list[Truth]
    negatives: list[Marked]
    times_ns: list[int]
    end_ns: int
    tiny: list[np.ndarray]


@dataclass(frozen=True)
class Job:
    """One film: number `number` of a fold, and the folder of work."""

    fold: int
    number: int
    num_frames: int
    out: Path


@dataclass(eq=False)
class Collected:
    """What was doubted in one film: evidence (N, 40), labels, weights, and the network's answers by what it was shown."""

    job: Job
    evidence: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    answers: dict[bytes, tuple[np.ndarray, np.ndarray]]


def load(videos: Path) -> list[Piece]:
    return [*footage.load("tuning", videos), *photographs()]


def photographs() -> Iterator[Piece]:
    from skimage import data

    for name in PHOTOGRAPHS:
        image = getattr(data, name)()
        image = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
        small = footage.small(np.ascontiguousarray(image[:, :, 2::-1]))
        listed = Listed("tuning", f"photo:{name}", 0, PHOTO_FRAMES - 1, f"photo-{name}", None)
        yield Piece(listed, 25.0, [small] * PHOTO_FRAMES)


def is_photo(piece: Piece) -> bool:
    return piece.listed.file.startswith("photo:")


def folds(pieces: Sequence[Piece]) -> dict[str, int]:
    """The fold of each scene, as even in frames as a greedy deal makes them."""
    sizes: dict[str, int] = {}
    for one in pieces:
        sizes[one.listed.scene] = sizes.get(one.listed.scene, 0) + (PHOTO_WEIGHT if is_photo(one) else len(one.frames))
    load, fold = [0] * NUM_FOLDS, {}
    for scene, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        fold[scene] = min(range(NUM_FOLDS), key=load.__getitem__)
        load[fold[scene]] += size
    return fold


def wide_shot(random: np.random.Generator, pieces: list[Piece], size: tuple[int, int], fps: float) -> Shot:
    """As in the benchmark, but one in five in fast motion and one in eight, and every photograph, with a move of up to 2 % a frame."""
    shot = compose.drawn_shot(random, pieces, size, fps)
    if not is_photo(shot.piece) and random.random() < 0.2:
        shot.rate *= float(random.choice([2, 3, 4, 6, 8]))
    if is_photo(shot.piece) or random.random() < 0.12:
        pan = shot.view.width / 320 * random.uniform(-6, 6)
        is_pan = random.random() < 0.7
        drift = (float(pan), float(pan * random.uniform(-0.6, 0.6)), 0.0) if is_pan else (0.0, 0.0, float(random.uniform(-0.012, 0.012)))
        slowed = 0.2 if random.random() < 0.3 else 1.0
        shot.drift = (drift[0] * slowed, drift[1] * slowed, drift[2] * slowed)
    return shot


def wide_join(random: np.random.Generator) -> Join:
    kind = str(random.choice(["cut", "dissolve", "fade", "wipe"], p=[0.46, 0.27, 0.09, 0.18]))
    is_eased = bool(random.random() < 0.3)
    if kind == "dissolve":
        return Join(kind, out_frames=round(float(np.exp(random.uniform(np.log(3), np.log(66))))), is_eased=is_eased)
    if kind == "wipe":
        direction, length = str(random.choice(compose.WIPES)), int(random.integers(4, 45))
        return Join(kind, direction, length, is_eased=is_eased, softness=float(random.choice([0.01, 0.03, 0.05, 0.1, 0.2])))
    if kind == "fade":
        out, back = (round(float(np.exp(random.uniform(np.log(4), np.log(40))))) for _ in range(2))
        level = "black" if random.random() < 0.75 else "white"
        return Join(kind, level, out, int(random.integers(2, 31)) if random.random() < 0.5 else 1, back, is_eased)
    return Join(kind)


WIDE = Style(wide_join, wide_shot, negative_every=170)


def share(pieces: list[list[Piece]]) -> None:
    """Hands each process the pieces of every fold: inherited, for pickling them to it with each job would cost more than the job."""
    global _PIECES
    _PIECES = pieces
    cv2.setNumThreads(1)


_PIECES: list[list[Piece]] = []


def made(job: Job) -> Made:
    """A film; its frames are kept in the folder of work, since they are wanted twice."""
    random = np.random.default_rng([SEED, job.fold, job.number])
    pieces = _PIECES[job.fold]
    fps = float(random.choice([12, 15, 24, 25, 25, 30, 30, 50, 60]))
    size = [(192, 108), (256, 144), (320, 180)][int(random.integers(3))]
    some = [one for one in pieces if not is_photo(one)] + [one for one in pieces if is_photo(one) and random.random() < PHOTO_SHARE]
    film = compose.planned(random, some, size, fps, int(random.choice([90, 130, 250])), job.num_frames, WIDE)
    kept = job.out / f"film_{job.fold}_{job.number}_{job.num_frames}.npy"
    if not kept.exists():
        np.save(kept, np.stack(list(_coded(film, random))))
    tiny = list(np.load(kept))
    times_ns = np.round(np.arange(len(tiny)) / fps * 1e9).astype(np.int64).tolist()
    return Made(film.truth(), film.marked(), times_ns, int(len(tiny) / fps * 1e9), tiny)


def _coded(film: compose.Film, random: np.random.Generator) -> Iterator[np.ndarray]:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 92))]
    is_upside_down = random.random() < 0.2
    channels = random.permutation(3) if random.random() < 0.2 else np.arange(3)
    for frame in film.frames():
        coded = cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR)
        small = cv2.resize(coded, TINY, interpolation=cv2.INTER_LINEAR)
        yield np.ascontiguousarray((small[::-1] if is_upside_down else small)[:, :, channels])


def detected(film: Made, judge: Judge, answers: dict[bytes, tuple[np.ndarray, np.ndarray]]) -> list[Transition]:
    """What the detector finds with a judge; the network is asked what it has not been asked before."""

    def heard(model: transnet.Network, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = hashlib.sha1(frames.tobytes(), usedforsecurity=False).digest()
        if key not in answers:
            answers[key] = transnet.predicted(model, frames)
        return answers[key]

    verify.predicted = heard
    detector = verify.VerifyDetector(PARAMS, judge)
    found = [one for time_ns, frame in zip(film.times_ns, film.tiny, strict=True) for one in detector.push(time_ns, frame)]
    return found + detector.finish(film.end_ns)


def labelled(doubt: Doubt, truth: Sequence[Truth]) -> tuple[int, float]:
    """Whether a doubt should be reported, and how much that matters."""
    best = (0, 1.0)
    for one in truth:
        said = _of_cut(doubt, one) if doubt.is_cut else _of_span(doubt, one)
        if said is not None:
            if said[0] and said[1]:
                return said
            best = said
    return best


def _of_cut(doubt: Doubt, one: Truth) -> tuple[int, float] | None:
    if one.clean - one.first <= SHORT and one.first - 1 <= doubt.start <= one.clean + 1:
        return 1, 1.0
    if one.first <= doubt.start <= one.clean:
        # A step in a fade is neither right nor wrong, one in a dissolve is found by others.
        return (1, 0.0) if one.kind.startswith("fade") else (0, 0.3)
    return None


def _of_span(doubt: Doubt, one: Truth) -> tuple[int, float] | None:
    length, is_fade = one.clean - one.first, one.kind.startswith("fade")
    common = min(doubt.stop, one.clean) - max(doubt.start, one.first)
    overlap = common / max(max(doubt.stop, one.clean) - min(doubt.start, one.first), 1)
    if doubt.source == "fade" and is_fade and common > 0:
        return 1, 1.0
    if length > SHORT and not is_fade and overlap >= 0.35:
        return 1, 0.5 if doubt.source == "fade" else 1.0
    if is_fade:
        return (1, 0.0) if common > 0.3 * (doubt.stop - doubt.start) else None
    if 0 < length <= SHORT:
        return (1, 0.5) if doubt.stop - doubt.start <= 10 and common > 0 else None
    if length == 0:
        return (0, 1.0) if doubt.start - 1 <= one.first <= doubt.stop + 1 else None
    return (0, 0.3) if overlap > 0.15 else None


def collected(job: Job) -> Collected:
    film = made(job)
    doubts: list[Doubt] = []
    known: list[np.ndarray] = []

    def note(doubt: Doubt, evidence: np.ndarray) -> float:
        doubts.append(doubt)
        known.append(evidence)
        return 1.0

    answers: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    detected(film, note, answers)
    said = np.array([labelled(one, film.truth) for one in doubts], float).reshape(-1, 2)
    return Collected(job, np.array(known, np.float32).reshape(-1, len(NAMES)), said[:, 0].astype(int), said[:, 1], answers)


def fitted(films: Sequence[Collected]) -> tuple[Trees, Trees]:
    """Trees for cuts and for spans."""
    from sklearn.ensemble import GradientBoostingClassifier

    evidence, label, weight = (np.concatenate([getattr(one, name) for one in films]) for name in ("evidence", "label", "weight"))
    found = []
    for of_cuts in (True, False):
        wanted = (weight > 0) & ((evidence[:, 0] > 0) == of_cuts)
        model = GradientBoostingClassifier(
            n_estimators=NUM_TREES,
            max_depth=DEPTH,
            learning_rate=RATE,
            subsample=0.5,
            min_samples_leaf=25,
            max_features=0.35,
            random_state=0,
        )
        model.fit(evidence[wanted], label[wanted], weight[wanted])
        trees = packed(model)
        some = evidence[wanted][:100]
        if max(abs(trees.probability(one) - p) for one, p in zip(some, model.predict_proba(some)[:, 1], strict=True)) > 1e-3:
            raise AssertionError("packed trees say something else than the model")
        found.append(trees)
    return found[0], found[1]


def packed(model: object) -> Trees:
    """Every tree as a full one: a leaf above the last level asks what is always answered no."""
    trees = [one.tree_ for (one,) in model.estimators_]  # type: ignore[attr-defined]
    num_inner = 2**DEPTH - 1
    feature = np.zeros((len(trees), num_inner), np.uint8)
    threshold = np.full((len(trees), num_inner), np.inf, np.float32)
    leaf = np.zeros((len(trees), num_inner + 1), np.float32)
    for n, tree in enumerate(trees):
        places = [(0, 0)]
        while places:
            place, node = places.pop()
            is_leaf = tree.children_left[node] < 0
            if place >= num_inner:
                leaf[n, place - num_inner] = model.learning_rate * tree.value[node].item()  # type: ignore[attr-defined]
                continue
            if not is_leaf:
                feature[n, place], threshold[n, place] = tree.feature[node], _down(tree.threshold[node])
            left, right = (node, node) if is_leaf else (tree.children_left[node], tree.children_right[node])
            places += [(2 * place + 1, left), (2 * place + 2, right)]
    share = float(model.init_.class_prior_[1])  # type: ignore[attr-defined]
    return Trees(feature, threshold, leaf, float(np.log(share / (1 - share))))


def _down(threshold: float) -> np.float32:
    """The greatest float32 that is not above: evidence of that type then answers as it does with the threshold itself."""
    nearest = np.float32(threshold)
    return np.nextafter(nearest, np.float32(-np.inf)) if nearest > threshold else nearest


def scored_film(one: Collected, trees: tuple[Trees, Trees]) -> Tally:
    film = made(one.job)

    def judge(doubt: Doubt, known: np.ndarray) -> float:
        return trees[0 if doubt.is_cut else 1].probability(known)

    found = detected(film, judge, one.answers)
    return scored(film.truth, film.negatives, found, np.array(film.times_ns), film.end_ns)


def described(name: str, tallies: Sequence[Tally]) -> str:
    whole = sum(tallies, Tally())
    rates = " | ".join(f"{key} " + " ".join(f"{rate:.3f}" for rate in whole.rates(key)) for key in ("all", "hard", "gradual", "found"))
    kinds = sorted({kind for kind, _ in whole.by_kind})
    recall = ", ".join(f"{kind} {whole.by_kind[kind, 'found']}/{whole.by_kind[kind, 'all']}" for kind in kinds)
    mixed, visible = (100 * count / max(whole.num_clips, 1) for count in (whole.num_mixed, whole.num_visible))
    clips = f"mixed {mixed:.1f} %, visibly {visible:.1f} % of {whole.num_clips} clips"
    return f"{name}, {len(tallies)} films: {rates} | {clips}\n  recall {recall}\n  false alarms {dict(whole.causes)}"


def saved(trees: tuple[Trees, Trees], path: Path) -> None:
    arrays: dict[str, np.ndarray] = {}
    for name, one in zip(("cut", "span"), trees, strict=True):
        arrays |= {f"{name}_feature": one.feature, f"{name}_threshold": one.threshold, f"{name}_leaf": one.leaf}
        arrays[f"{name}_prior"] = np.array(one.prior)
    np.savez_compressed(path, allow_pickle=False, **arrays)


def train(pieces: Sequence[Piece], options: argparse.Namespace) -> None:
    fold = folds(pieces)
    dealt = [[one for one in pieces if fold[one.listed.scene] == n] for n in range(NUM_FOLDS)]
    jobs = [Job(n, number, options.frames, options.out) for number in range(options.films) for n in range(NUM_FOLDS)]
    with multiprocessing.get_context("fork").Pool(options.processes, share, (dealt,)) as pool:
        films = pool.map(collected, jobs, chunksize=1)
        num_cuts = sum(int((one.evidence[:, 0] > 0).sum()) for one in films)
        print(f"{len(films)} films, {sum(len(one.label) for one in films)} doubts, {num_cuts} of cuts", flush=True)
        left_out = [[one for one in films if one.job.fold != n] for n in range(NUM_FOLDS)]
        *by_fold, final = pool.map(fitted, [*left_out, films], chunksize=1)
        saved(final, options.out / "judge.npz")
        tallies = pool.starmap(scored_film, [(one, by_fold[one.job.fold]) for one in films], chunksize=1)
    print(described("scenes left out", tallies), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"), help="folder of videos")
    parser.add_argument("--out", type=Path, required=True, help="folder for judge.npz")
    parser.add_argument("--films", type=int, default=120, help="films of each fold")
    parser.add_argument("--frames", type=int, default=1000, help="least length of a film")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    train(load(options.videos), options)


if __name__ == "__main__":
    main()
