"""Verify that a record describes its clips: the work of `vdm-bench verify`.

The run is repeated from the clips alone, with the same protocol and metrics and the reference from its source.
Features may be taken from the run folder, but a random share of them is computed again. Then both records are
compared. This shows that the scores are those of these clips under this protocol. It cannot show that a model
generated the clips.
"""

import contextlib
import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.leaderboards.record import Curve, Record, parse_record, read_bytes
from vdm_bench.leaderboards.verified import Verification, record_digest, verified_file, write_verification
from vdm_bench.metrics.choices import PRECISIONS, Precision
from vdm_bench.metrics.networks import ComputeConfig
from vdm_bench.metrics.score import Score, Signature
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.protocols.conditions import open_scored
from vdm_bench.runs.audit import Auditor, Findings, StoredFeatures
from vdm_bench.runs.context import open_run, prepare
from vdm_bench.runs.plan import ExistingClips, RunOptions
from vdm_bench.runs.run import measure
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.files import scratch_folder
from vdm_bench.runtime.locks import hold_file
from vdm_bench.runtime.progress import Reporter, Silent
from vdm_bench.runtime.run_folder import RunFolder
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.version import __version__
from vdm_bench.video.clip import ClipDataset
from vdm_bench.video.contents import digest_of_clips, load_clip

DEFAULT_SHARE = 0.1

# Allowed differences between machines; docs/numerical-error.md has the measurements.
# Features: the error of the worst clip, as a share of the spread between reference clips.
FEATURE_TOLERANCE: dict[Precision, float] = {"fp32": 2e-4, "tf32": 5e-2, "bf16": 3e-1}
# Scores: see `score_mismatch`.
SCORE_TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}


def signature_difference(claimed: Record, remade: Record) -> str | None:
    """Describe the first difference in metrics or signatures, ignoring the software version; None if equal."""
    here, there = ({score.metric: score for score in record.scores} for record in (claimed, remade))
    if odd := sorted(here.keys() ^ there.keys()):
        return f"{odd[0]} is {'no metric of' if odd[0] in here else 'missing; it belongs to'} the protocol"
    for metric, score in here.items():
        if score.digest != there[metric].digest:
            return f"{metric} is signed {_differences(score, there[metric])}"
    return None


def _differences(claimed: Score, remade: Score) -> str:
    found = Signature.parse(claimed.signature).differences(Signature.parse(remade.signature))
    return "; ".join(f"{key}:{here or ''}, and must be {key}:{there or ''}" for key, here, there in found)


def count_difference(claimed: Record, remade: Record) -> str | None:
    """Describe the first difference in what the records say about the clips; None if equal."""
    for side in ("reference", "generated"):
        here, there = getattr(claimed, side), getattr(remade, side)
        for count in ("expected", "scored", "repeated", "lossy"):
            if getattr(here, count) != getattr(there, count):
                return f"{side}.{count} is {getattr(here, count)}, and must be {getattr(there, count)}"
        if len(here.skipped) != len(there.skipped):
            return f"{side}.skipped lists {len(here.skipped)} clips, and {len(there.skipped)} cannot be read"
    departures = remade.protocol.departures if remade.protocol else []
    if departures and not (claimed.protocol and claimed.protocol.departures):
        return f"a departure from the protocol is not in the record: {departures[0]}"
    return None


def score_mismatch(claimed: Record, remade: Record, tolerance: float) -> str | None:
    """Describe the first difference in values, intervals, jackknives, floors, limits and curves; None if equal.

    Args:
        claimed: the record.
        remade: the record of the repeated run, with the same metrics.
        tolerance: allowed difference, as a share of the value or of half the width of its interval, whichever is
            larger.
    """
    again = {score.metric: score for score in remade.scores}
    for score in claimed.scores:
        if fault := _one_score_mismatch(score, again[score.metric], tolerance):
            return fault
    if claimed.curves.keys() != remade.curves.keys():
        here, there = (", ".join(record.curves) or "nothing" for record in (claimed, remade))
        return f"there are curves of {here}, and must be of {there}"
    for metric, curve in claimed.curves.items():
        if fault := _curve_mismatch(metric, curve, remade.curves[metric], tolerance):
            return fault
    return None


def _one_score_mismatch(claimed: Score, remade: Score, tolerance: float) -> str | None:
    if remade.value is None or claimed.value is None:
        same = (claimed.value, claimed.status) == (remade.value, remade.status)
        return None if same else f"{claimed.metric} is {claimed.value}, and comes out as {remade.value}"
    interval = remade.interval
    scale = max(abs(remade.value), interval.high / 2 - interval.low / 2 if interval else 0.0)
    allowed = tolerance * scale
    if "knn" in dict(Signature.parse(claimed.signature).fields):
        allowed = max(allowed, 2 / remade.n_generated)  # one clip more or less within a radius, on either side
    if claimed.jackknife and claimed.jackknife_groups != remade.jackknife_groups:
        old = claimed.jackknife_groups or "consecutive clips"
        return (
            f"the jackknife of {claimed.metric} is over groups of {old}, and must be over "
            f"{remade.jackknife_groups}; score the clips again with this version"
        )
    counts = len(claimed.jackknife), len(remade.jackknife)
    if counts[0] not in (0, counts[1]):  # older records have none
        return f"the jackknife of {claimed.metric} has {counts[0]} values, and must have {counts[1]}"
    # The values of the jackknife are last, so a record without them is compared up to there.
    for (name, here), (_, there) in zip(_numbers(claimed), _numbers(remade), strict=False):
        if (here is None) != (there is None) or not _near(here, there, allowed):
            off = f"allowed: {allowed:.2g} more or less"
            return f"{name} of {claimed.metric} is {here}, and comes out as {there} ({off})"
    return None


def _numbers(score: Score) -> Iterator[tuple[str, float | None]]:
    yield "the value", score.value
    for name, part in (("the interval", score.interval), ("the value at N = infinity", score.infinite)):
        for end in ("low", "high"):
            yield f"the {end} end of {name}", getattr(part, end, None)
    yield "the value at N = infinity", getattr(score.infinite, "value", None)
    yield "the floor", score.floor
    for place, value in enumerate(score.jackknife, 1):
        yield f"value {place} of the jackknife", value


def _near(here: float | None, there: float | None, allowed: float) -> bool:
    return here is None or there is None or abs(here - there) <= allowed


def _curve_mismatch(metric: str, claimed: Curve, remade: Curve, tolerance: float) -> str | None:
    if claimed.frames != remade.frames:
        return f"the curve of {metric} is of other frames"
    pairs = zip(claimed.frames, claimed.values, remade.values, strict=True)
    for frame, here, there in pairs:
        if not math.isclose(here, there, rel_tol=tolerance):
            return f"the curve of {metric} is {here} at frame {frame}, and comes out as {there}"
    return None


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: name of the check, one word.
        fault: what contradicts the record, or None.
        found: what agrees with the record, as text.
    """

    name: str
    fault: str | None
    found: str


@dataclass(frozen=True)
class VerifyOptions:
    """How a record is verified.

    Attributes:
        samples: the clips: a clip archive, a run folder, or anything that `vdm-bench run --clips` accepts.
        protocol: name or file of the record's protocol, if it is not built in.
        share: share of the clips whose stored features are computed again, in (0, 1].
        seed: seed for choosing these clips; None for an unpredictable one.
        data_root: folder of the protocol's dataset.
        reference_stats: file with the reference features, instead of the reference clips.
        computing: device and weights; the precision is that of the record.
        workers: decoding threads.
        recheck: read and hash every reference clip, even if its hash is cached.
    """

    samples: Path
    protocol: str | None = None
    share: float = DEFAULT_SHARE
    seed: int | None = None
    data_root: Path | None = None
    reference_stats: Path | None = None
    computing: ComputeConfig = field(default_factory=ComputeConfig)
    workers: int = 2
    recheck: bool = False


def verify(record: str | Path, options: VerifyOptions, reporter: Reporter | None = None) -> list[Check]:
    """Verify a record. If all checks pass, `verified.json` is written next to it; otherwise it is removed.

    Args:
        record: a `run.json`, or its run folder.
        options: how to verify it.
        reporter: receives progress; none is reported by default.

    Returns:
        The checks in order, up to the first fault.

    Raises:
        InputError: the record cannot be read or follows no protocol, or clips or reference are missing.
    """
    record = Path(record)
    path = RunFolder(record).record if record.is_dir() else record
    reporter = reporter or Silent()
    checks: list[Check] = []
    # Not the folder's lock: the note holds for the record with this digest, whatever else is written there.
    with hold_file(verified_file(path), "verify", way_out="wait for it", patience=0.0, note=reporter.note):
        with contextlib.suppress(_RefutedError):
            note = _verification(path, read_bytes(path), options, reporter, checks)
            write_verification(note, path)
            return checks
        verified_file(path).unlink(missing_ok=True)
        return checks


class _RefutedError(Exception):
    """A check found a fault, so the later ones are skipped."""


def _check(checks: list[Check], name: str, fault: str | None, found: str = "") -> None:
    checks.append(Check(name, fault, found))
    if fault is not None:
        raise _RefutedError(fault)


def _verification(
    path: Path, data: bytes, options: VerifyOptions, reporter: Reporter, checks: list[Check]
) -> Verification:
    """Run all checks, from cheap to expensive."""
    record = _valid_record(path, data, checks)
    protocol = _protocol_of(record, path, options, checks)
    precision = _precision_of(record, checks)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    with scratch_folder() as folder:
        # First, because the reference must be available.
        run = open_run(protocol, folder, _run_options(options, record, precision), reporter, ProcessGroup())
        count = _same_clips(record, protocol, options, reporter, checks)
        chosen = np.random.default_rng(seed).choice(count, math.ceil(options.share * count), replace=False)
        auditor = Auditor(StoredFeatures(RunFolder(path.parent).features), frozenset(chosen.tolist()))
        prepared = prepare(run)
        measured = measure(run, prepared, source=auditor)
        findings = auditor.findings(prepared.suite.networks, measured.reference)
        remade = measured.record
    _check(checks, "counts", count_difference(record, remade), f"equal: {record.generated.scored} clips")
    signed = "equal: " + ", ".join(f"{score.metric} {score.digest}" for score in record.scores)
    _check(checks, "signatures", signature_difference(record, remade), signed)
    _same_features(findings, count, precision, checks)
    values = ", ".join(_valued(score) for score in remade.scores)
    _check(
        checks,
        "scores",
        score_mismatch(record, remade, SCORE_TOLERANCE[precision]),
        f"equal; computed again: {values}",
    )
    return Verification(
        record_sha256=record_digest(data),
        verified=datetime.now(UTC).replace(microsecond=0),
        code_version=__version__,
        device=remade.environment.device,
        protocol=protocol.name,
        clips=count,
        computed_again=findings.computed,
        seed=seed,
        checks={check.name: check.found for check in checks},
    )


def _run_options(options: VerifyOptions, record: Record, precision: Precision) -> RunOptions:
    """Return the options that repeat the run of the record with the given clips."""
    return RunOptions(
        source=ExistingClips(options.samples, fit=_is_fitted(record)),
        data_root=options.data_root,
        reference_stats=options.reference_stats,
        skip_broken=True,
        computing=replace(options.computing, precision=precision),
        workers=options.workers,
        recheck=options.recheck,
    )


def _is_fitted(record: Record) -> bool:
    return record.sampler.kind == "folder" and record.sampler.settings.get("fit") is True


def _valid_record(path: Path, data: bytes, checks: list[Check]) -> Record:
    try:
        record = parse_record(data, path)
    except InputError as error:
        _check(checks, "record", str(error))
        raise
    _check(checks, "record", None, f"valid, schema version {record.schema_version}")
    return record


def _protocol_of(record: Record, path: Path, options: VerifyOptions, checks: list[Check]) -> Protocol:
    if record.protocol is None:
        raise InputError(
            f"{path} follows no protocol, so there is nothing to compare its signatures with; verify records of "
            "`vdm-bench run`"
        )
    protocol = get_protocol(options.protocol or record.protocol.name)
    fault = None
    if (record.protocol.name, record.protocol.digest) != (protocol.name, protocol.digest):
        fault = (
            f"the record is of {record.protocol.name} with the digest {record.protocol.digest}, and that of "
            f"{protocol.name} is {protocol.digest}"
        )
    _check(checks, "protocol", fault, f"{protocol.name}, digest {protocol.digest}")
    return protocol


def _precision_of(record: Record, checks: list[Check]) -> Precision:
    """Return the precision in the signatures of all network-based scores."""
    signed = {dict(Signature.parse(score.signature).fields).get("prec") for score in record.scores} - {None}
    known = [precision for precision in PRECISIONS if precision in signed]
    if len(signed) != 1 or len(known) != 1:
        _check(checks, "signatures", "the scores are not signed with one precision, such as prec:fp32")
    return known[0]


def _same_clips(
    record: Record, protocol: Protocol, options: VerifyOptions, reporter: Reporter, checks: list[Check]
) -> int:
    """Compare the content of the clips before anything is computed from them; return their number."""
    clips = open_scored(options.samples, protocol, fit=_is_fitted(record))
    count = min(len(clips), protocol.generated_count)
    claimed = record.generated
    if claimed.digest is None:
        _check(checks, "clips", "the record has no digest of its clips; run it again with this version")
    digests, broken = _digests(clips, count, options.workers, reporter)
    fault = None
    if digest_of_clips(digests) != claimed.digest:
        fault = (
            f"the {len(digests)} clips in {options.samples} are not the {claimed.scored} that were scored, or "
            f"are in another order{f'; {broken[0]}' if broken else ''}"
        )
    _check(checks, "clips", fault, f"equal: the content of {len(digests)} clips")
    return count


def _digests(
    clips: ClipDataset, count: int, workers: int, reporter: Reporter
) -> tuple[list[str], list[BrokenClipError]]:
    """Read the clips; return the SHA-256 of each, and the errors of those that cannot be read."""
    digests, broken = list[str](), list[BrokenClipError]()
    with reporter.stage("content of the clips", count) as advance:
        for loaded in ordered_map(lambda index: load_clip(clips, index), range(count), workers):
            if isinstance(loaded, BrokenClipError):
                broken.append(loaded)
            else:
                digests.append(loaded.digest)
            advance(1)
    return digests, broken


def _same_features(findings: Findings, count: int, precision: Precision, checks: list[Check]) -> None:
    found, allowed = f"{findings.computed} of {count} clips computed again", FEATURE_TOLERANCE[precision]
    if findings.compared:
        found += (
            f"; stored features are off by at most {findings.worst:.1e} of the spread (allowed: {allowed:.0e})"
        )
    fault = None if findings.worst <= allowed else f"the stored features are not those of the clips: {found}"
    _check(checks, "features", fault, found)


def _valued(score: Score) -> str:
    return f"{score.metric} {score.status if score.value is None else format(score.value, '.6g')}"
