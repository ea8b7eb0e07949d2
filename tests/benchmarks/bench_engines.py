"""How fast the engines fuse, how fast videos and folders are fused end to end, and what bounds them.

    python tests/benchmarks/bench_engines.py                                   # everything; some minutes on two idle cores
    python tests/benchmarks/bench_engines.py --network edge --part engines --rounds 5
    python tests/benchmarks/bench_engines.py --network student --part engines --size 256x256
    python tests/benchmarks/bench_engines.py --part folders --folders VIS_DIR IR_DIR --pairs 361

Engines are measured in processes of their own, in rounds (engine_times.py): the median of all calls. The stages of videos and
folders run in turn, in one process, with one engine. CPU time is that of all threads of the process: on an idle machine a
call cannot take less than it divided by the threads.

Freed memory is kept for the next call, as in `fusioncli` (`pipeline.allocator`).
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine_times import Block, engine_rows, verdict

from fusion.export import export_network
from fusion.film import Film
from fusion.folders import FolderOptions, check_entries, fuse_folders
from fusion.footage import Footage
from fusion.fused_image import save_fused
from fusion.inference import Fuser, fuse_for, read_checked
from fusion.quantisation import export_int8
from fusion.thread_share import fusing_threads
from fusion.video import fuse_videos
from pipeline.allocator import keep_freed_memory
from pipeline.console import emit_json, note, set_quiet, show_table
from pipeline.pairs import pair_folders
from pipeline.synth import draw_pairs

SIZE = (480, 640)
BLOCK = 120  # pairs decoded, fused, encoded and then all of that together, before the next ones
PARTS = ("engines", "video", "folders")


@dataclass
class Timing:
    """Seconds of several runs."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @contextmanager
    def run(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def in_turn(sides: dict[str, Callable[[], Any]], runs: int) -> dict[str, Timing]:
    """Every side once, ``runs`` times over, after one call each that does not count."""
    timings = {name: Timing() for name in sides}
    for side in sides.values():
        side()
    for _ in range(runs):
        for name, side in sides.items():
            with timings[name].run():
                side()
    return timings


def draw_videos(home: Path, frames: int) -> tuple[Path, Path]:
    """Two H.264 videos of 640 x 480 at 30 frames a second: a drawn pair that a camera pans over."""
    from pipeline.synth import draw_pair

    pair = draw_pair(0, 0, SIZE[0], SIZE[1] + 2 * frames)
    paths = home / "visible.mp4", home / "infrared.mp4"
    for path, image in zip(paths, (pair.visible, np.repeat(pair.infrared[..., None], 3, axis=-1)), strict=True):
        write_video(path, [image[:, 2 * index : 2 * index + SIZE[1]] for index in range(frames)])
    return paths


def write_video(path: Path, frames: list[Any]) -> None:
    """Floats 0..1 as H.264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "18", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for frame in frames:
            pixels = np.rint(frame * 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))


def video(fuser: Fuser, label: str, home: Path, frames: int, runs: int) -> list[dict[str, Any]]:
    """A video end to end, and its stages alone."""
    paths = draw_videos(home, frames)
    decoded = [[moment.pixels for moment in Footage(str(path)).frames()] for path in paths]
    pairs = [(one, np.ascontiguousarray(two[..., 1])) for one, two in zip(*decoded, strict=True)]

    def decode() -> None:
        for path in paths:
            footage = Footage(str(path))
            for _ in footage.frames():
                pass
            footage.close()

    def fuse() -> None:
        with fusing_threads(fuser.at_once) as pool:
            list(pool.map(lambda pair: fuser(*pair), pairs))

    def encode() -> None:
        like = Footage(str(paths[0]))
        film = Film(home / "alone.mp4", like, SIZE, None)
        for index, (pixels, _) in enumerate(pairs):
            film.add(pixels, round(index / 30 / like.base))
        film.close(end=0)
        like.close()

    def whole() -> None:
        fuse_videos(fuser, str(paths[0]), str(paths[1]), home / "fused.mp4")

    return stages("video", label, {"decode": decode, "fuse": fuse, "encode": encode, "all": whole}, len(pairs), runs)


def folders(fuser: Fuser, label: str, home: Path, sources: tuple[Path, Path], count: int) -> list[dict[str, Any]]:
    """A folder end to end, and its stages alone in the threads they have there; blocks of pairs in turn."""
    pairs, options = pair_folders(*sources)[:count], FolderOptions()
    timings: dict[str, Timing] = {name: Timing() for name in ("decode", "fuse", "encode", "all")}
    with fusing_threads(fuser.at_once) as pool:
        list(pool.map(lambda pair: fuser(*pair), 8 * [(np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8))]))
        for start in range(0, len(pairs), BLOCK):
            block, place = pairs[start : start + BLOCK], home / f"{start}"
            for kind in ("vi", "ir", "alone"):
                (place / kind).mkdir(parents=True)
            for pair in block:
                for kind, path in (("vi", pair.first), ("ir", pair.second)):
                    (place / kind / path.name).symlink_to(path.resolve())
            with ThreadPoolExecutor(options.jobs) as readers, timings["decode"].run():
                read = list(readers.map(lambda pair: read_checked(pair.first, pair.second), block))
            with timings["fuse"].run():
                fused = list(pool.map(lambda one: fuse_for(fuser, one.visible, one.infrared, options.output), read))
            targets = [place / "alone" / f"{pair.stem}{options.suffix}" for pair in block]
            with ThreadPoolExecutor(options.jobs) as writers, timings["encode"].run():
                list(writers.map(save_fused, targets, fused, [one.visible for one in read]))
            with timings["all"].run():
                entries = fuse_folders(fuser, *(place / kind for kind in ("vi", "ir", "out")), options)
            check_entries(entries, place / "out")
    return rows("folder", label, timings, len(pairs))


def stages(what: str, label: str, sides: dict[str, Callable[[], None]], count: int, runs: int) -> list[dict[str, Any]]:
    timings = in_turn(sides, runs)
    return rows(what, label, timings, count * runs)


def rows(what: str, label: str, timings: dict[str, Timing], count: int) -> list[dict[str, Any]]:
    slowest = max(sum(timing.wall) for name, timing in timings.items() if name != "all")
    return [
        {
            "what": what,
            "network": label,
            "stage": name,
            "per second": count / sum(timing.wall),
            "wall ms each": 1e3 * sum(timing.wall) / count,
            "CPU ms each": 1e3 * sum(timing.cpu) / count,
            "of the slowest alone": f"{slowest / sum(timing.wall):.0%}",
        }
        for name, timing in timings.items()
    ]


def parse_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH."""
    height, width = text.split("x")
    return int(height), int(width)


def main() -> None:
    """Measure and print."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--network", action="append", help="default: nano, edge, student (d16)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default=SIZE, type=parse_size, help="HEIGHTxWIDTH, for the engines")
    parser.add_argument("--runs", type=int, default=30, help="timed calls of an engine in a round, after 8 to warm up")
    parser.add_argument("--rounds", type=int, default=3, help="over the engines, a fresh process for each")
    parser.add_argument(
        "--seconds", type=float, default=20, help="at most for the calls of an engine in a round, 2 at least"
    )
    parser.add_argument("--repeats", type=int, default=2, help="of the video")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--engine", default="openvino", help="for the video and the folder")
    parser.add_argument("--int8", action="store_true", help="for the video and the folder")
    parser.add_argument("--at-once", type=int, default=2, help="pictures or frames, each by its share of the threads")
    parser.add_argument("--folders", nargs=2, type=Path, help="default: drawn pairs of 640 x 480")
    parser.add_argument("--pairs", type=int, default=80)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts = options.part or list(PARTS)
    machine = f"{options.threads} threads, {os.cpu_count()} cores, torch {torch.__version__}, {platform.machine()}"
    answers: dict[str, Any] = {"machine": machine, "load": os.getloadavg()[0]}
    note(f"{machine}; load average {os.getloadavg()[0]:.1f}: read wall times with it in mind")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if "engines" in parts:
            block = Block(size=options.size, threads=options.threads, runs=options.runs, seconds=options.seconds)
            found, said = [], []
            for name in options.network or ("nano", "edge", "student"):
                of_one = engine_rows(name, home, block, options.rounds)
                found += of_one
                said.append(verdict(of_one))
            table(f"{options.size[1]} x {options.size[0]}, one pair, {machine}", found)
            if options.size == SIZE:
                for line in said:
                    note(line)
            answers["engines"] = found
        for part in ("video", "folders"):
            if part not in parts:
                continue
            name = (options.network or ["edge"])[0]
            label = f"{name}, {options.engine}{' int8' if options.int8 else ''}"
            if options.engine != "torch":
                set_quiet(True)
                if options.int8:
                    export_int8(name, options.engine, home / "engine", count=4)
                else:
                    export_network(name, options.engine, home / "engine")
            source = name if options.engine == "torch" else home / "engine"
            fuser = Fuser.from_pretrained(source, device="cpu", engine=options.engine, at_once=options.at_once)
            if part == "video":
                answers[part] = video(fuser, label, home, options.frames, options.repeats)
                table("two videos of 640 x 480 in, one out, decoding and encoding included", answers[part])
                continue
            sources = options.folders
            if sources is None:
                draw_pairs(home / "drawn", options.pairs, 0, height=SIZE[0], width=SIZE[1])
                sources = home / "drawn" / "vi", home / "drawn" / "ir"
            (home / "folders").mkdir()
            answers[part] = folders(fuser, label, home / "folders", tuple(sources), options.pairs)
            table(
                f"a folder of pairs, {options.at_once} at once; the stages alone in the threads they have there",
                answers[part],
            )
    if options.json:
        emit_json(answers, options.json)


def table(title: str, found: list[dict[str, Any]]) -> None:
    """Print rows that share their keys."""
    show_table(title, tuple(found[0]), [tuple(row.values()) for row in found])


if __name__ == "__main__":
    main()
