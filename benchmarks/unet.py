"""The Video U-Net compared with networks of two popular libraries, in one run; and the training step of a preset.

    pip install --no-deps video-diffusion-pytorch einops einops-exts rotary-embedding-torch tqdm pillow
    pip install diffusers
    python benchmarks/unet.py                                 # two idle CPU cores: 20 minutes
    python benchmarks/unet.py --device cuda
    python benchmarks/unet.py --preset ucf101                 # parameters; a step with checkpointing in 24 GB
    python benchmarks/unet.py --preset ucf101 --device cuda --batch 1 --batch 4 --batch 16

What video-diffusion-pytorch needs beyond these is unused here; a stub takes torchvision's place. A peer that
cannot be imported is left out. Networks take turns (A B C A B C ...), so noise of the machine meets all alike;
figures are medians of rounds, ratios medians of ratios within a round. Peak memory is what a fresh process takes
beyond its level with weights and libraries loaded (Linux), and on a GPU what torch allocates beyond the weights.
A GPU computes with torch's defaults, which are TF32 in convolutions, where it does not say bf16.
"""

import concurrent.futures
import gc
import itertools
import multiprocessing
import re
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import nn
from unet_peers import CONTENDERS, FRAMES, Contender
from unet_preset import report_preset, seconds_of

from vdm_bench.runtime.bfloat16 import is_slow

# How much longer a peer's training step is to take, and which share of its memory ours may.
BOUNDS = {"video-diffusion-pytorch": {32: 1.7, 64: 2.5}, "diffusers": {32: 2.5, 64: 4.0}}
MEMORY_BOUND = 0.6

Job = Callable[[], object]


def entrants(resolution: int, device: torch.device, names: list[str]) -> dict[str, Contender]:
    """Build those networks that can be imported, and say which cannot."""
    built = {}
    for name in names:
        try:
            built[name] = CONTENDERS[name](resolution, device)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return built


def job_of(kind: str, contender: Contender, resolution: int, device: torch.device, evaluations: int) -> Job:
    """Make what is timed: `forward`, `step` (forward, backward, Adam) or `sampling` of one clip."""
    network = contender.network.train(kind == "step")
    z = torch.randn(1, 3, FRAMES, resolution, resolution, device=device)
    if kind == "sampling":
        return lambda: contender.sample(1, evaluations)
    if kind == "forward":
        return torch.inference_mode()(lambda: contender.predict(z))
    target, optimiser = torch.randn_like(z), torch.optim.Adam(network.parameters(), lr=1e-5)

    def step() -> None:
        torch.autograd.backward(F.mse_loss(contender.predict(z).float(), target))
        optimiser.step()
        optimiser.zero_grad()

    return step


def take_turns(jobs: dict[str, Job], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Time all jobs in turn, several rounds, after one that warms up: seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            taken = seconds_of(job, device)
            if number:
                times[name].append(taken)
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return times


def peak_memory(name: str, kind: str, resolution: int, device: torch.device, threads: int) -> float:
    """Return what two rounds take beyond weights and libraries, in MB; to be called in a fresh process."""
    torch.set_num_threads(threads)
    contender = CONTENDERS[name](resolution, device)
    job = job_of(kind, contender, resolution, device, 0)
    warm_up(device)
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark comes down to the present level
    for _ in range(2):
        job()
    after = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM")
    return (after - before) / 1e6


def warm_up(device: torch.device) -> None:
    """Take a step with a tiny network, so that libraries are loaded and set up."""
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 3, 3)).to(device)
    optimiser = torch.optim.Adam(network.parameters())
    torch.autograd.backward(network(torch.randn(16, 3, 16, 16, device=device)).square().mean())
    optimiser.step()


def resident(field: str) -> int:
    """Read the resident set of this process, or its high-water mark, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise click.ClickException(f"/proc/self/status has no {field}; memory is measured on Linux")
    return 1024 * int(found[1])


def in_fresh_process(function: Callable[[], float]) -> float:
    """Call in a process that has done nothing before."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function).result()


def compare(
    resolution: int, device: torch.device, names: list[str], rounds: int, evaluations: int, threads: int
) -> None:
    """Measure all networks at one resolution and print the table."""
    contenders = entrants(resolution, device, names)
    figures: dict[str, dict[str, list[float]]] = {}
    for kind in ("forward", "step", "sampling"):
        jobs = {name: job_of(kind, c, resolution, device, evaluations) for name, c in contenders.items()}
        figures[kind] = take_turns(jobs, rounds, device)
    for kind in ("forward", "step"):
        peaks = {name: partial(peak_memory, name, kind, resolution, device, threads) for name in contenders}
        figures[f"{kind} memory"] = {name: [in_fresh_process(peak)] for name, peak in peaks.items()}
    print(
        f"\n{FRAMES}x{resolution}x{resolution}, batch 1, {device}, {threads} threads; ratios are to ours; ",
        end="",
    )
    print(f"sampling takes {evaluations} network evaluations a clip")
    print(f"{'':<31} {'parameters':>10} {'forward':>15} {'step':>15} {'clips/s':>17} ", end="")
    print(f"{'MB forward':>14} {'MB step':>14}")
    for name, contender in contenders.items():
        print(line(name, contender.parameters, figures))
    for peer, bounds in BOUNDS.items():
        for name, own in itertools.product(contenders, ("ours", "ours, one block")):
            if name.startswith(peer) and resolution in bounds:
                print(verdict(own, name, bounds[resolution], figures))


def ratio(values: dict[str, list[float]], name: str, own: str = "ours") -> float:
    """Return the median over rounds of a network's figure as a multiple of ours."""
    return statistics.median(other / mine for other, mine in zip(values[name], values[own], strict=True))


def line(name: str, parameters: int, figures: dict[str, dict[str, list[float]]]) -> str:
    """Lay out the figures of one network."""
    text = f"{name:<31} {parameters / 1e6:8.2f} M"
    for kind in ("forward", "step"):
        values = figures[kind]
        text += f" {statistics.median(values[name]):7.3f} s {ratio(values, name):4.2f} x"
    sampling = figures["sampling"]
    text += f" {1 / statistics.median(sampling[name]):8.4f} {1 / ratio(sampling, name):6.2f} x"
    for kind in ("forward memory", "step memory"):
        values = figures[kind]
        text += f" {values[name][0]:7.0f} {ratio(values, name):4.2f} x"
    return text


def verdict(own: str, name: str, bound: float, figures: dict[str, dict[str, list[float]]]) -> str:
    """Say whether one of our networks keeps the bounds relative to one peer."""
    slower, larger = ratio(figures["step"], name, own), ratio(figures["step memory"], name, own)
    share = 1 / larger
    good = "met" if slower >= bound and share <= MEMORY_BOUND else "MISSED"
    return (
        f"{good}: {name} takes {slower:.2f} x the time of {own} a step (bound: {bound:g}), "
        f"{own} {share:.2f} of its memory (bound: {MEMORY_BOUND:g})"
    )


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Timed rounds after one that warms up.")
@click.option("--resolution", "resolutions", multiple=True, type=int, default=(32, 64), show_default=True)
@click.option("--evaluations", default=4, show_default=True, help="Network evaluations a clip in sampling.")
@click.option("--compile/--no-compile", "compiled", default=False, help="Ours compiled, too; takes minutes.")
@click.option("--preset", help="Measure the training step of a preset instead, such as ucf101.")
@click.option("--batch", "batches", multiple=True, type=int, default=(1,), help="For --preset.  [default: 1]")
@click.option("--bf16/--fp32", default=None, help="For --preset; by default bf16 on a GPU and fp32 on a CPU.")
@click.option("--checkpointing/--no-checkpointing", default=None, help="For --preset; by default on a CPU.")
@click.option("--peak", type=float, default=989.0, show_default=True, help="TFLOP/s of the GPU in dense bf16.")
def main(
    device: str,
    threads: int,
    rounds: int,
    resolutions: tuple[int, ...],
    evaluations: int,
    compiled: bool,
    preset: str | None,
    batches: tuple[int, ...],
    bf16: bool | None,
    checkpointing: bool | None,
    peak: float,
) -> None:
    """Measure and print."""
    where = torch.device(device)
    on_cpu = where.type == "cpu"
    torch.set_num_threads(threads)
    if preset is not None:
        report_preset(
            preset,
            where,
            batches=batches,
            rounds=0 if on_cpu else rounds,
            bf16=not on_cpu if bf16 is None else bf16,
            checkpointing=on_cpu if checkpointing is None else checkpointing,
            compiled=(False, True) if compiled else (False,),
            peak=0.0 if on_cpu else peak,
        )
        return
    left_out = [word for word, out in (("compiled", not compiled), ("bf16", is_slow(where))) if out]
    names = [name for name in CONTENDERS if not any(word in name for word in left_out)]
    for resolution in resolutions:
        compare(resolution, where, names, rounds, evaluations, threads)


if __name__ == "__main__":
    main()
