"""A folder of images fused elsewhere, as a method to benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fusion.methods import Pixels
from fusion.results import MethodCard
from fusion.scorecard import COLOURED, KIND, grey_for_colour, header, images_by_stem, read_eight_bit
from pipeline.errors import InputError
from pipeline.images import EXTENSIONS, Picture, probe_image
from pipeline.pairs import Pair
from pipeline.words import counted, listed, shown


class FolderMethod:
    """Images fused elsewhere, matched to the pairs by stem.

    Raises InputError when images are missing or belong to no pair; ``allow_missing`` counts the missing ones instead.
    ``known`` holds stems that are no stray files: other splits of the data set. All headers are read at once, so that
    every image of another size, depth or kind is in one error; grey ones too, with ``colour`` and a coloured first source.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        pairs: Sequence[Pair],
        *,
        allow_missing: bool = False,
        known: frozenset[str] = frozenset(),
        colour: bool = False,
    ) -> None:
        self.name = name
        self.folder = folder
        self.images = images_by_stem(folder)
        stems = {pair.stem for pair in pairs}
        missing = sorted(stems - self.images.keys())
        extra = sorted(self.images.keys() - stems - known)
        if len(missing) == len(stems):
            raise InputError(
                f"{folder}: none of its {len(self.images)} images has the name of a pair; it holds "
                f"{shown(sorted(self.images))}, the pairs are called {shown(sorted(stems))}"
            )
        if not allow_missing and (missing or extra):
            parts = [f"{counted(len(missing), 'fused image')} missing: {shown(missing)}"] if missing else []
            parts += [f"{counted(len(extra), 'image')} of no pair: {shown(extra)}"] if extra else []
            raise InputError(
                f"{folder}: {'; '.join(parts)}. With --allow-missing the rest is scored and the gap counted"
            )
        self._check([pair for pair in pairs if pair.stem in self.images], colour)

    def _check(self, pairs: Sequence[Pair], colour: bool) -> None:
        problems: list[str] = []
        for pair in pairs:
            path, source = self.images[pair.stem], probe_image(pair.first)
            info = header(path, problems)
            if info and (info.width, info.height) != (source.width, source.height):
                problems.append(
                    f"{path} is {info.width} x {info.height} pixels, its pair {source.width} x {source.height}"
                )
            if info and colour and grey_for_colour(source, info):
                problems.append(f"{path} is grey, its visible image in colour")
        if problems:
            raise InputError(
                f"{self.folder}: {listed(problems)}; scores need {KIND} of their pair's size"
                f"{COLOURED if colour else ''}"
            )

    @property
    def card(self) -> MethodCard:
        return MethodCard(name=self.name, title=self.name, kind="folder", source=str(self.folder))

    @property
    def identity(self) -> None:
        return None

    def fuse(self, pair: Pair, visible: Picture, infrared: Picture) -> Pixels | None:
        path = self.images.get(pair.stem)
        if path is None:
            return None
        return read_eight_bit(path).eight_bit()

    def cost(self) -> None:
        return None


def is_folder_of_images(path: Path) -> bool:
    """Whether a folder holds images and no weights."""
    if not path.is_dir() or (path / "config.json").exists():
        return False
    return any(entry.suffix.lower() in EXTENSIONS for entry in path.iterdir())
