"""What does this project cost on top of vLLM? `make bench-vllm` runs this in the environment of `make test-vllm`.

The same prompts go to the same engine twice: in a bare loop over `LLM.chat`, and through `fusioncli caption` with all that
it adds (hashes, tar, parsing, embedding, commit). The model is tiny and random, so a token costs little and the share of
everything else is larger than with a real one. CPU time of the whole process, both sides interleaved in one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.captioners import CAPTIONERS, BackEnd, CaptionRequest
from pipeline.captioners.conversation import conversation
from pipeline.captioners.vllm import VllmCaptioner, VllmSettings
from pipeline.captioning import CaptionOptions, Source, caption_pairs
from pipeline.console import set_quiet
from pipeline.images import read_image
from pipeline.manifest import load_manifest
from pipeline.pairs import find_pairs
from pipeline.task_file import load_task
from tiny_qwen import BUDGET, build_tiny_qwen


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of this process, all threads, and wall seconds."""
    cpu, wall = time.process_time(), time.monotonic()
    work()
    return time.process_time() - cpu, time.monotonic() - wall


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--shard-size", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    set_quiet(True)
    task = load_task("ivf")
    manifest = load_manifest("roadscene")
    pairs = list(find_pairs(manifest, arguments.root))[: arguments.pairs]
    source = Source(manifest=manifest, pairs=pairs, root=arguments.root)
    with tempfile.TemporaryDirectory() as folder:
        model = build_tiny_qwen(Path(folder) / "model")
        settings = VllmSettings(
            model=str(model),
            max_model_len=3072,
            max_sequences=arguments.shard_size,
            eager=True,
            max_tokens=arguments.tokens,
            **BUDGET,
        )
        engine = VllmCaptioner(task, settings)
        CAPTIONERS["vllm"] = BackEnd(load=lambda: (lambda *_: engine, VllmSettings))
        engine.close = lambda: None  # type: ignore[method-assign]  # the engine serves every round

        def bare() -> None:
            question = task.prompt()
            for start in range(0, len(pairs), arguments.shard_size):
                turns = []
                for pair in pairs[start : start + arguments.shard_size]:
                    request = CaptionRequest(
                        key=pair.key, pair_id="", first=read_image(pair.first), second=read_image(pair.second)
                    )
                    turns.append(
                        conversation(
                            request, task.modalities, question, lambda image: {"type": "image_pil", "image_pil": image}
                        )
                    )
                engine.engine.chat(turns, engine.sampling, use_tqdm=False)

        def ours(number: int) -> None:
            options = CaptionOptions(
                store=f"{folder}/store{number}",
                captioner="vllm",
                embedder="hashing",
                shard_size=arguments.shard_size,
                workers=1,
                max_failed="100%",
            )
            caption_pairs(options, source)

        bare()  # warm-up
        ours(-1)
        rounds = [(seconds(bare), seconds(lambda number=number: ours(number))) for number in range(arguments.rounds)]  # type: ignore[misc]
    answer = {
        "pairs": len(pairs),
        "tokens a pair": arguments.tokens,
        "bare CPU s": [round(one[0], 2) for one, _ in rounds],
        "fusioncli CPU s": [round(two[0], 2) for _, two in rounds],
        "overhead, CPU": f"{100 * (statistics.median(two[0] / one[0] for one, two in rounds) - 1):.1f} %",
        "overhead, wall": f"{100 * (statistics.median(two[1] / one[1] for one, two in rounds) - 1):.1f} %",
    }
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
