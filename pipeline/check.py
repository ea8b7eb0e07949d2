"""Looking a whole data set over: every file is decoded, every problem named with its path, nothing stops at the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from os import cpu_count
from pathlib import Path

from pipeline.console import progress
from pipeline.errors import FusionError, PairingError
from pipeline.guard import guarded_names, join_hashes, listed_hashes, picture_hash
from pipeline.image_folder import file_stem, left_by_a_system
from pipeline.images import EXTENSIONS
from pipeline.manifest import Manifest, Split, in_split
from pipeline.pairs import Pair, read_pair


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong: what kind, where, and in a sentence what."""

    kind: str  # missing folder, stray file, orphan, missing member, unreadable, mismatch, overlap, empty folder, test content
    path: str
    message: str


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """One split: pairs that are fine, pairs expected, and how many pairs have which size (height, width)."""

    name: str
    pairs: int
    expected: int | None
    sizes: dict[tuple[int, int], int]


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What was found in one data set."""

    name: str
    root: Path
    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem; notes do not count."""
        return not self.problems

    def as_dict(self) -> dict[str, object]:
        """For JSON; a size is written as width x height."""
        return {
            "name": self.name,
            "root": str(self.root),
            "ok": self.ok,
            "splits": [
                {
                    "name": split.name,
                    "pairs": split.pairs,
                    "expected": split.expected,
                    "sizes": {f"{width}x{height}": times for (height, width), times in split.sizes.items()},
                }
                for split in self.splits
            ],
            "problems": [vars(problem) for problem in self.problems],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One pair after decoding: its size and the hashes of its pictures, or what is wrong with it."""

    pair: Pair
    size: tuple[int, int] = (0, 0)
    hashes: tuple[str, str] = ("", "")
    problem: Problem | None = None


def check_dataset(manifest: Manifest, root: Path) -> CheckReport:
    """Decode every pair of every split under ``root``.

    Raises PairingError only when the data set's own folder is not there; all else becomes a Problem.
    """
    home = root / manifest.folder
    if not home.is_dir():
        raise PairingError(
            f"{home}: no such folder; {manifest.name} should lie there (see {manifest.homepage or 'README'})"
        )
    problems: list[Problem] = []
    found: dict[str, list[Pair]] = {}
    for split in manifest.splits.values():
        listing = _list_split(manifest, home, split)
        problems += [entry for entry in listing if isinstance(entry, Problem) and entry not in problems]
        found[split.name] = [entry for entry in listing if isinstance(entry, Pair)]
    seen = _look(manifest, found)
    problems += [entry.problem for entries in seen.values() for entry in entries if entry.problem]
    good = {name: [entry for entry in entries if not entry.problem] for name, entries in seen.items()}
    problems += _overlaps(good)
    problems += _empty(manifest, home, found)
    reports = tuple(
        SplitReport(
            name=split.name,
            pairs=len(good[split.name]),
            expected=split.expected,
            sizes=dict(sorted(Counter(entry.size for entry in good[split.name]).items())),
        )
        for split in manifest.splits.values()
    )
    notes = [*_count_notes(reports), *_copies(good), *_split_notes(manifest), *_passed_over(manifest, home)]
    guard_problems, guard_notes = _guarded(manifest.name, good)
    return CheckReport(
        name=manifest.name,
        root=root,
        splits=reports,
        problems=(*problems, *guard_problems),
        notes=(*notes, *guard_notes),
    )


def _list_split(manifest: Manifest, home: Path, split: Split) -> list[Pair | Problem]:
    sharing = [other for other in manifest.splits.values() if other.folders == split.folders]
    entries: list[Pair | Problem] = []
    files: list[dict[str, Path]] = []
    for name in manifest.names:
        folder = home / split.folders[name]
        files.append({})
        if not folder.is_dir():
            entries.append(Problem(kind="missing folder", path=str(folder), message="no such folder"))
            continue
        for path in sorted(folder.iterdir()):
            if path.is_file() and left_by_a_system(path.name):
                continue
            if not path.is_file() or path.suffix.lower() not in EXTENSIONS:
                entries.append(Problem(kind="stray file", path=str(path), message="not an image file"))
            elif file_stem(path) in files[-1]:
                entries.append(Problem(kind="stray file", path=str(path), message="a second file of the same stem"))
            elif not any(in_split(file_stem(path), other) for other in sharing):
                entries.append(Problem(kind="stray file", path=str(path), message="not in any split"))
            elif in_split(file_stem(path), split):
                files[-1][file_stem(path)] = path
    first, second = files
    for stem in sorted(first.keys() ^ second.keys()):
        path = first.get(stem) or second[stem]
        entries.append(Problem(kind="orphan", path=str(path), message="its partner of the same stem is missing"))
    for stem in sorted((split.members or frozenset()) - first.keys() - second.keys()):
        folder = home / split.folders[manifest.names[0]]
        entries.append(
            Problem(kind="missing member", path=str(folder / stem), message=f"listed in {split.name}, not there")
        )
    for stem in sorted(first.keys() & second.keys()):
        entries.append(Pair(key=stem, stem=stem, split=split.name, first=first[stem], second=second[stem]))
    return entries


def _look(manifest: Manifest, found: dict[str, list[Pair]]) -> dict[str, list[Seen]]:
    pairs = [pair for entries in found.values() for pair in entries]
    seen: dict[str, list[Seen]] = {name: [] for name in found}
    with progress() as bar, ThreadPoolExecutor(max_workers=cpu_count()) as pool:
        results = pool.map(lambda pair: _look_at(pair, manifest.channels), pairs)
        for entry in bar.track(results, total=len(pairs), description=f"decoding {manifest.name}"):
            seen[entry.pair.split].append(entry)
    return seen


def _look_at(pair: Pair, channels: tuple[int, int]) -> Seen:
    try:
        first, second = read_pair(pair, channels)
    except FusionError as error:
        message = str(error)
        path = str(pair.second if message.startswith(str(pair.second)) else pair.first)
        kind = "mismatch" if isinstance(error, PairingError) else "unreadable"
        return Seen(pair=pair, problem=Problem(kind=kind, path=path, message=message.removeprefix(f"{path}: ")))
    return Seen(pair=pair, size=first.size, hashes=(picture_hash(first), picture_hash(second)))


def _overlaps(good: dict[str, list[Seen]]) -> Iterator[Problem]:
    """One picture on both sides of two splits, by either modality."""
    for one, other in combinations(good, 2):
        for side in (0, 1):
            known = {entry.hashes[side]: entry.pair for entry in good[one]}
            for entry in good[other]:
                if twin := known.get(entry.hashes[side]):
                    here, there = (entry.pair.first, twin.first) if side == 0 else (entry.pair.second, twin.second)
                    yield Problem(
                        kind="overlap", path=str(here), message=f"in {other}, shows the pixels of {there} in {one}"
                    )


def _empty(manifest: Manifest, home: Path, found: Mapping[str, Sequence[Pair]]) -> Iterator[Problem]:
    """Folders that are there and hold nothing, where no other problem says so."""
    for split in manifest.splits.values():
        folder = home / split.folders[manifest.names[0]]
        if not found[split.name] and folder.is_dir() and all(left_by_a_system(path.name) for path in folder.iterdir()):
            yield Problem(kind="empty folder", path=str(folder), message=f"the split {split.name} has no pair")


def _count_notes(reports: Sequence[SplitReport]) -> Iterator[str]:
    for report in reports:
        if report.expected is not None and report.pairs != report.expected:
            yield f"{report.name}: {report.pairs:,} of the {report.expected:,} pairs of the full set"


def _passed_over(manifest: Manifest, home: Path) -> Iterator[str]:
    folders = dict.fromkeys(home / split.folders[name] for split in manifest.splits.values() for name in manifest.names)
    for path in (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())):
        if path.is_file() and left_by_a_system(path.name):
            yield f"{path}: passed over, as no image"


def _copies(good: dict[str, list[Seen]]) -> Iterator[str]:
    for name, entries in good.items():
        stems: dict[tuple[str, str], str] = {}
        for entry in entries:
            if (twin := stems.setdefault(entry.hashes, entry.pair.stem)) != entry.pair.stem:
                yield f"{name}: {entry.pair.stem} and {twin} are one and the same pair"


def _split_notes(manifest: Manifest) -> Iterator[str]:
    files = {split.file: split.digest for split in manifest.splits.values() if split.file}
    for file, digest in files.items():
        yield f"{file}: the stems match its sha256 {(digest or '')[:12]}…"


def _guarded(name: str, good: dict[str, list[Seen]]) -> tuple[list[Problem], list[str]]:
    """Listed test pairs: none may lie in ``train``, and this data set's own ``test`` should be on its list."""
    listed = {digits: (owner, stem) for owner in guarded_names() for digits, stem in listed_hashes(owner).items()}
    problems, known = [], 0
    for split, entries in good.items():
        for entry in entries:
            owner, stem = listed.get(join_hashes(*entry.hashes), ("", ""))
            if owner and split == "train":
                message = f"in train, shows the pixels of {stem} in the test split of {owner}"
                problems.append(Problem(kind="test content", path=str(entry.pair.first), message=message))
            known += owner == name and split == "test"
    if name not in guarded_names():
        return problems, []
    return problems, [f"test: {known} of {len(good.get('test', []))} pairs are on the list that training refuses"]
