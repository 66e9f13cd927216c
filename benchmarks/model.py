"""What the model costs at full size: encoder, growth with the volume, share of the machine's rate, decoding, a step.

    python benchmarks/model.py [--only encoder growth rate decoding small-step full-step] [--repeats 1]

One thread, CPU seconds (other work on the machine hardly changes them), random weights. Every volume runs in a process
of its own, so that its peak memory is its own.

encoder     forward of 240 x 480 x 480 voxels, widths 96/192/384, layers 4+4+4: linear stems and convolutional ones.
            Peers on the same kind of machine and volume: CT2Rep's CTViT 24.2 s with 8,000 tokens, CT-CLIP's patching
            42.7 s with 13,800; ours has 108,000 fine tokens, 122,880 with the padding to whole tubelets.
growth      time and memory of 1x, 2x, 4x, 8x volumes, and the exponent of voxels that fits them best.
rate        multiplications and additions counted by PyTorch during that forward, over its time, against the best
            float32 matrix product that this machine reaches, at these widths and twice as wide; then the operators that
            take the time.
decoding    a 135 M decoder (30 layers, width 576, vocabulary 49,152), greedy, 64 tokens: with the scan (256 tokens a
            level) against the bare one, and a batch of 8 against 1, in both precisions.
small-step  forward, backward and AdamW at 96 x 128 x 128 voxels with that decoder and 300 text tokens. U-VLM: 104 s.
full-step   the same at 240 x 480 x 480 with an 8-layer decoder, encoder activations computed again: peak memory.
            CT2Rep's failed to allocate.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from timing import cpu_seconds
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from ctscribe import ontology
from ctscribe.facts import FindingFacts, facts_of
from ctscribe.language.fusion import FusedDecoder, Memory
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.language.station import LanguageConfig
from ctscribe.model import CTReportModel, GridContract, ModelConfig
from ctscribe.report import Finding
from ctscribe.tensors import RegionMasks, VolumeBatch
from ctscribe.vision.build import build_encoder
from ctscribe.vision.config import EncoderConfig
from ctscribe.vision.tubelets import TubeletConfig

WINDOWS = ((-600.0, 1500.0), (40.0, 400.0), (500.0, 2000.0))
FULL = (240, 480, 480)
SHAPES = ((120, 240, 240), (120, 240, 480), (120, 480, 480), FULL)
LEVEL = 256
TEXT = 300
GIB = 2**30


def encoder_config(stem: int, checkpointing: bool = False, wider: int = 1) -> EncoderConfig:
    """The encoder whose cost is asked for."""
    tubelets = TubeletConfig(widths=(96 * wider, 192 * wider, 384 * wider), stem=stem)
    return EncoderConfig(tubelets, depths=(4, 4, 4), checkpointing=checkpointing)


def scan(shape: tuple[int, int, int]) -> VolumeBatch:
    """Random Hounsfield units over 300 x 360 x 360 mm."""
    spacing = [mm / n for mm, n in zip((300.0, 360.0, 360.0), shape, strict=True)]
    return VolumeBatch(torch.rand(1, *shape) * 2000 - 1000, torch.tensor([spacing]))


def peak() -> float:
    """Largest resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


# ---------------------------------------------------------------------- each runs in a process of its own
def one_forward(shape: tuple[int, int, int], stem: int, repeats: int) -> dict[str, float]:
    """CPU seconds and peak memory of the encoder's forward."""
    encoder, volume = build_encoder(encoder_config(stem), WINDOWS).eval(), scan(shape)
    before = peak()
    with torch.no_grad():
        tokens = encoder(volume).fine.tokens.shape[1]
        seconds = min(cpu_seconds(lambda: encoder(volume), repeats, warm=False))
    return {"seconds": seconds, "gib": peak() - before, "tokens": tokens}


def one_rate(shape: tuple[int, int, int], wider: int, repeats: int) -> dict[str, Any]:
    """Counted operations, the machine's own rate, and the slowest operators."""
    size = 2048
    a, b = torch.rand(size, size), torch.rand(size, size)
    best = 2 * size**3 / min(cpu_seconds(lambda: a @ b, 5))
    encoder, volume = build_encoder(encoder_config(0, wider=wider), WINDOWS).eval(), scan(shape)
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            encoder(volume)
        seconds = min(cpu_seconds(lambda: encoder(volume), repeats, warm=False))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            encoder(volume)
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_cpu_time_total)[:8]
    total = sum(row.self_cpu_time_total for row in profile.key_averages())
    return {
        "counted": counter.get_total_flops(),
        "seconds": seconds,
        "best": best,
        "operators": [(row.key, row.self_cpu_time_total / total) for row in rows],
    }


def host(layers: int) -> LlamaForCausalLM:
    """A decoder of SmolLM2-135M's width and vocabulary, random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=49152, hidden_size=576, num_hidden_layers=layers, num_attention_heads=9, num_key_value_heads=3,
            intermediate_size=1536, tie_word_embeddings=True, max_position_embeddings=2048,
        )
    ).eval()  # fmt: skip


def one_decoding(count: int, grafted: bool, precision: str, repeats: int) -> dict[str, float]:
    """CPU seconds of a prompt and of 64 tokens more, ``count`` texts at once."""
    torch.manual_seed(0)
    dtype = getattr(torch, precision)
    bare, length = host(30).to(dtype), 64
    prompt = torch.randint(5, 1000, (count, 4))
    real = torch.ones_like(prompt)
    greedy = {"do_sample": False, "max_new_tokens": length, "min_new_tokens": length, "pad_token_id": 0}

    def plain() -> None:
        bare.generate(input_ids=prompt, attention_mask=real, **greedy)

    work: Callable[[], None] = plain
    if grafted:
        decoder = FusedDecoder(bare, 256, 8, gate=0.5).eval().to(dtype)
        level = torch.rand(count, LEVEL, 256, dtype=dtype), torch.ones(count, LEVEL, dtype=torch.bool)
        facts = torch.rand(count, len(ontology.findings()), 256, dtype=dtype)
        memory = Memory(*level, *level, *level, *level, facts)

        def looking() -> None:
            decoder.generate(prompt, real, memory, **greedy)

        work = looking
    with torch.no_grad():
        return {"seconds": min(cpu_seconds(work, repeats)) / length}


def one_step(shape: tuple[int, int, int], layers: int, checkpointing: bool) -> dict[str, float]:
    """CPU seconds and peak memory of one training step, after one to warm up for small volumes."""
    torch.manual_seed(0)
    tokenizer = ReportTokenizer.train(["No pleural effusion is seen.", "未见胸腔积液。"] * 5, 400)
    config = ModelConfig(
        grid=GridContract(shape, (1.25, 0.75, 0.75)),
        windows=WINDOWS,
        encoder=encoder_config(0, checkpointing),
        language=LanguageConfig(checkpointing=checkpointing),
    )
    model = CTReportModel(config, tokenizer, host(layers)).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)
    names = ontology.model_regions()
    cells = config.encoder.tubelets.cells(shape, config.grid.spacing)
    masks = RegionMasks(torch.rand(1, len(names), *cells), torch.ones(1, len(names), dtype=torch.bool), names)
    facts: FindingFacts = facts_of([(Finding("lung_nodule", "present", ("right_upper_lobe",), (12.0,)),)])
    ids = torch.randint(5, 1000, (1, TEXT))
    batch: Any = SimpleNamespace(
        volume=scan(shape), regions=masks, facts=facts, input_ids=ids, attention=torch.ones_like(ids)
    )

    def step() -> None:
        out = model(batch, wants=frozenset({"report", "presence"}))
        loss = F.cross_entropy(out.text_logits[0, :-1], ids[0, 1:]) + out.findings.presence.square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    seconds = min(cpu_seconds(step, 1, warm=math.prod(shape) < 5_000_000))
    return {"seconds": seconds, "gib": peak(), "million": sum(p.numel() for p in model.parameters()) / 1e6}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "forward": one_forward, "rate": one_rate, "decoding": one_decoding, "step": one_step
}  # fmt: skip


def apart(job: str, *arguments: Any) -> dict[str, Any]:
    """Run one of `JOBS` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps([job, *arguments])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{job} {arguments} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# ------------------------------------------------------------------------------------------- what is printed
def encoder(repeats: int) -> None:
    """At most 15 CPU seconds."""
    for stem in (0, TubeletConfig().stem):
        row = apart("forward", FULL, stem, repeats)
        kind = "linear stems" if stem == 0 else "convolutional stems"
        print(
            f"forward of {FULL}, {kind}: {row['seconds']:.1f} CPU s, {row['gib']:.1f} GiB, {row['tokens']} fine tokens"
        )


def growth(repeats: int) -> None:
    """Exponents of at most 1.1."""
    rows = [apart("forward", shape, 0, repeats) for shape in SHAPES]
    for shape, row in zip(SHAPES, rows, strict=True):
        print(f"forward of {shape}: {row['seconds']:.2f} CPU s, {row['gib']:.2f} GiB")
    logs = [math.log(math.prod(shape)) for shape in SHAPES]
    for what in ("seconds", "gib"):
        print(f"{what} grow with voxels to the power of {_slope(logs, [math.log(row[what]) for row in rows]):.2f}")


def _slope(x: list[float], y: list[float]) -> float:
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def rate(repeats: int) -> None:
    """At least half of the machine's rate."""
    for wider in (1, 2):
        row = apart("rate", FULL, wider, repeats)
        reached = row["counted"] / row["seconds"]
        print(f"widths {'/'.join(map(str, encoder_config(0, wider=wider).tubelets.widths))}:", end=" ")
        print(
            f"{row['counted']:.2e} operations counted in {row['seconds']:.1f} CPU s: {reached / 1e9:.0f} GFLOP/s,",
            end=" ",
        )
        print(f"{reached / row['best']:.0%} of this machine's {row['best'] / 1e9:.0f} GFLOP/s")
        for name, share in row["operators"]:
            print(f"  {share:5.1%} {name}")


def decoding(repeats: int) -> None:
    """At most 1.35 times the bare decoder; a batch of 8 at least 4 times the throughput."""
    for precision in ("float32", "bfloat16"):
        bare, looking = (apart("decoding", 1, grafted, precision, repeats)["seconds"] for grafted in (False, True))
        eight = apart("decoding", 8, True, precision, repeats)["seconds"]
        print(f"{precision}: a token {1000 * bare:.1f} CPU ms bare, {1000 * looking:.1f} with the scan:", end=" ")
        print(f"{looking / bare:.2f} times; eight texts at once {1000 * eight:.1f} a step:", end=" ")
        print(f"{8 * looking / eight:.1f} times the throughput")


def small_step(repeats: int) -> None:
    """At most a fifth of U-VLM's 104 CPU seconds."""
    row = apart("step", (96, 128, 128), 30, False)
    print(
        f"train step at (96, 128, 128), {row['million']:.0f} M parameters, {TEXT} text tokens: "
        f"{row['seconds']:.1f} CPU s, {row['seconds'] / 104:.2f} of U-VLM's 104; {row['gib']:.1f} GiB"
    )


def full_step(repeats: int) -> None:
    """At most 12 GB."""
    row = apart("step", FULL, 8, True)
    print(f"train step at {FULL}, 8-layer decoder: {row['seconds']:.0f} CPU s, peak {row['gib'] * GIB / 1e9:.1f} GB")


PARTS = {
    "encoder": encoder, "growth": growth, "rate": rate, "decoding": decoding, "small-step": small_step,
    "full-step": full_step,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.job:
        job, *arguments = json.loads(options.job)
        print(json.dumps(JOBS[job](*[tuple(a) if isinstance(a, list) else a for a in arguments])))
        return
    for part in options.only:
        PARTS[part](options.repeats)


if __name__ == "__main__":
    main()
