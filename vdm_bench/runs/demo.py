"""The demo: all baselines and the reference model under one protocol, with a table and a picture."""

from pathlib import Path

from vdm_bench.leaderboards.store import load_runs
from vdm_bench.leaderboards.tables.formats import format_tables
from vdm_bench.pages.write import write_html
from vdm_bench.protocols import get_protocol
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.reference_model.model import packaged_models
from vdm_bench.runs.run import run
from vdm_bench.runtime.files import remove_temporary_files, write_text
from vdm_bench.runtime.locks import hold
from vdm_bench.runtime.progress import Reporter
from vdm_bench.runtime.run_folder import REPORT_FILE, RunFolder
from vdm_bench.samplers import REFERENCE
from vdm_bench.samplers.baselines import BASELINES
from vdm_bench.video.archive import Archive
from vdm_bench.video.clip import ClipDataset
from vdm_bench.video.sheet import write_contact_sheet

PROTOCOL = "shapes-unconditional"
PICTURE = "contact-sheet.png"

# The reference model generates fewer clips than the protocol asks for, so that a CPU needs only minutes. Its
# scores are marked and ranked separately; `vdm-bench run shapes-unconditional --sampler reference` runs the full
# protocol. The FVD of 8 steps is within 4 of that of 12 (docs/reference-model.md); fewer than 48 clips double the
# floor.
MODEL = "shapes"
MODEL_CLIPS = 48
MODEL_OPTIONS = {
    "checkpoint": MODEL,
    "sampler": "dpm-solver",
    "steps": "8",
    "labels": "random",
    "guidance_weight": "2",
}


def run_demo(out: Path, workers: int, reporter: Reporter) -> Path:
    """Run the baselines, and the reference model if it is packaged; write `report.md`, a picture and a page.

    Args:
        out: folder for the runs and the report.
        workers: decoding threads.
        reporter: receives progress.

    Returns:
        The path of the report.

    Raises:
        InputError: `out` cannot be written.
    """
    with hold(out, "demo", note=reporter.note) as alone:
        remove_temporary_files(out, shared=not alone)
        return _run_demo(out, workers, reporter)


def _run_demo(out: Path, workers: int, reporter: Reporter) -> Path:
    protocol = get_protocol(PROTOCOL)
    rows: list[tuple[str, ClipDataset]] = [("test set", open_dataset(protocol, protocol.reference))]
    for name in BASELINES:
        folder = out / "runs" / name
        run(protocol, out=folder, sampler=name, workers=workers, reporter=reporter)
        rows.append((name, Archive(RunFolder(folder).samples)))
    if MODEL in packaged_models():
        folder = out / "runs" / REFERENCE
        run(
            protocol,
            out=folder,
            sampler=REFERENCE,
            options=MODEL_OPTIONS,
            limit=MODEL_CLIPS,
            workers=workers,
            reporter=reporter,
        )
        rows.append((REFERENCE, Archive(RunFolder(folder).samples)))
    write_contact_sheet(out / PICTURE, rows)
    tables = format_tables(load_runs(out / "runs"), "markdown").strip()
    report = (
        f"# {protocol.name}\n\n{protocol.title}. Protocol {protocol.digest}.\n\n{tables}\n\n"
        f"![Real and generated clips, a row each]({PICTURE})\n"
    )
    write_text(out / "report.md", report)
    write_html([out / "runs"], out / REPORT_FILE, reporter=reporter)
    return out / "report.md"
