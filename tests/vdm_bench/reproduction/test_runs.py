"""Plans carried out: runs of a tiny model, models trained here, what is missing, and verdicts by intervals."""

import dataclasses
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import miniatures
import pytest
import torch
from tiny_model import TINY

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.score import Estimate
from vdm_bench.reference_model.checkpoint import CheckpointInfo, load_model, save_model
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.reproduction import execute as carrying
from vdm_bench.reproduction import execute as training
from vdm_bench.reproduction.execute import execute, verdict
from vdm_bench.reproduction.experiments import Claim, Model, ReproductionOptions, ReproductionPlan
from vdm_bench.reproduction.paper import paper_plan
from vdm_bench.reproduction.shapes import shapes_plan
from vdm_bench.reproduction.tables import format_outcome, plan_lines
from vdm_bench.runtime.progress import Silent
from vdm_bench.runtime.stopping import Stop

CLIPS = 10  # the fewest that have an interval


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors", 32)


def save_tiny(path: Path, resolution: int, **training: int) -> str:
    config = dataclasses.replace(TINY, frames=16, resolution=resolution, attention_resolutions=(), classes=240)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VideoUNet(config)
        torch.nn.init.normal_(network.exit.weight, std=0.02)  # zero in a new network: every clip would be alike
    save_model(path, network, CheckpointInfo("tiny", config, training=training))
    return str(path)


def small(plan: ReproductionPlan, **fields: Any) -> ReproductionPlan:
    """The plan with a reference of 64 clips."""
    cases = [
        dataclasses.replace(case, protocol=case.protocol.model_copy(update={"reference_count": 64} | fields))
        for case in plan.cases
    ]
    return dataclasses.replace(plan, cases=tuple(cases))


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", ["2", "5"])
def test_a_table_on_shapes_has_values_and_verdicts_and_resumes(number: str, tiny: str, tmp_path: Path) -> None:
    plan = small(shapes_plan(number, steps=2))
    means = ReproductionOptions(tmp_path / "runs", {"shapes": tiny}, limit=CLIPS)
    outcome = execute(plan, means, Silent())
    assert list(outcome.records) == [case.key for case in plan.cases]
    assert outcome.missing == {}
    assert [found.claim for found in outcome.verdicts] == list(plan.claims)
    before = files(tmp_path / "runs")
    again = execute(plan, means, Silent())
    assert files(tmp_path / "runs") == before
    assert again.verdicts == outcome.verdicts
    text = format_outcome(plan, outcome, "text")
    for case in plan.cases:
        score = outcome.score(case.key, "embedded/fvd")
        assert score is not None
        assert score.n_generated == CLIPS
        assert score.signature in text
    assert text.count("claim: ") == len(plan.claims)
    assert f"own: generated {CLIPS} of 1024 clips ({', '.join(outcome.records)})" in text


def test_a_difference_is_that_of_the_scores_and_paired_by_seed(tiny: str, tmp_path: Path) -> None:
    plan = small(shapes_plan("2", steps=2))
    outcome = execute(plan, ReproductionOptions(tmp_path, {"shapes": tiny}, limit=CLIPS), Silent())
    (found,) = outcome.verdicts
    better, worse = (outcome.score(key, "embedded/fvd") for key in ("langevin", "ancestral"))
    assert better is not None
    assert worse is not None
    assert better.value is not None
    assert worse.value is not None
    assert found.difference.value == pytest.approx(better.value - worse.value, abs=1e-9)
    assert found.difference.method.startswith("paired-")


def test_extension_runs_to_64_frames_by_both_methods(tiny: str, tmp_path: Path) -> None:
    plan = shapes_plan("6", steps=2)
    plan = small(dataclasses.replace(plan, cases=plan.cases[:2], claims=plan.claims[:2]), reference_count=16)
    outcome = execute(plan, ReproductionOptions(tmp_path, {"shapes": tiny}, limit=CLIPS), Silent())
    signatures = [score.signature for record in outcome.records.values() for score in record.scores]
    assert all("in:64x32x32>" in signature for signature in signatures)
    methods = [record.sampler.settings["method"] for record in outcome.records.values()]
    assert methods == ["reconstruction", "replacement"]
    assert len(outcome.verdicts) == 2


@pytest.fixture
def joint(monkeypatch: pytest.MonkeyPatch) -> ReproductionPlan:
    """Table 4 with models of two steps, of which training takes a moment."""
    get_preset = training.get_preset
    tiny_network = {"base_channels": 8, "attention_resolutions": (), "head_dim": 8, "embedding_dim": 16}
    monkeypatch.setattr(training, "get_preset", lambda name: get_preset(name).override("model", **tiny_network))
    plan = small(shapes_plan("4", steps=2, training_steps=2))
    models = {
        name: dataclasses.replace(model, training={**model.training, "batch": 2})
        for name, model in plan.models.items()
    }
    return dataclasses.replace(plan, models=models)


def test_models_of_table_4_are_trained_here_with_0_4_and_8_images(
    joint: ReproductionPlan, tmp_path: Path
) -> None:
    outcome = execute(joint, ReproductionOptions(tmp_path, limit=CLIPS), Silent())
    infos = [load_model(tmp_path / "models" / name / "model.safetensors")[1] for name in joint.models]
    assert [(info.step, info.training["joint_images"]) for info in infos] == [(2, 0), (2, 4), (2, 8)]
    assert len({record.sampler.settings["checkpoint"] for record in outcome.records.values()}) == 3
    before = files(tmp_path)
    execute(joint, ReproductionOptions(tmp_path, limit=CLIPS), Silent())
    assert files(tmp_path) == before


def test_training_that_was_stopped_goes_on_and_ends_with_the_same_weights(
    joint: ReproductionPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AfterOneStep(Stop):
        def __call__(self) -> bool:
            signal.raise_signal(signal.SIGINT)
            return super().__call__()

    model, means = joint.models["images-4"], ReproductionOptions(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(training, "Stop", AfterOneStep)
        with pytest.raises(training.StoppedError, match="rerun the same command to resume") as stopped:
            training.train_model(model, tmp_path / "stopped", means, Silent())
    assert stopped.value.exit_code == 128 + signal.SIGINT
    assert load_model(tmp_path / "stopped" / "model.safetensors")[1].step == 1
    resumed = training.train_model(model, tmp_path / "stopped", means, Silent())
    whole = training.train_model(model, tmp_path / "whole", means, Silent())
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_model_that_is_given_is_not_trained(joint: ReproductionPlan, tmp_path: Path) -> None:
    given = {f"images-{n}": save_tiny(tmp_path / f"{n}.safetensors", 32, joint_images=n) for n in (0, 4, 8)}
    execute(joint, ReproductionOptions(tmp_path / "runs", given, limit=CLIPS), Silent())
    assert not (tmp_path / "runs" / "models").exists()


def test_a_model_with_other_training_settings_is_refused_early(joint: ReproductionPlan, tmp_path: Path) -> None:
    wrong = save_tiny(tmp_path / "wrong.safetensors", 32, joint_images=8)
    with pytest.raises(
        InputError, match=r"trained with joint_images 8, and images-4 is with 4; give --checkpoint"
    ):
        execute(joint, ReproductionOptions(tmp_path / "runs", {"images-4": wrong}), Silent())
    with pytest.raises(InputError, match=r"nowhere\.safetensors does not exist"):
        execute(joint, ReproductionOptions(tmp_path / "runs", {"images-8": "nowhere.safetensors"}), Silent())
    assert not (tmp_path / "runs").exists()


def paper_on_bair(metric: str = "embedded/fvd") -> ReproductionPlan:
    """Table 2 with quick settings, a metric that needs no weights, and no word on the architecture."""
    plan = small(paper_plan("2"), reference_count=3, condition_count=3, generated_count=12, metrics=(metric,))
    quick = [
        dataclasses.replace(case, options={**case.options, "steps": "1", "preset": ""}) for case in plan.cases
    ]
    for case in quick:
        del case.options["preset"]  # type: ignore[attr-defined]
    return dataclasses.replace(plan, cases=tuple(quick), metrics={"fvd": metric})


def test_a_table_of_the_paper_is_run_on_its_data(tmp_path: Path) -> None:
    root = miniatures.write_bair(tmp_path / "bair")
    model = save_tiny(tmp_path / "tiny.safetensors", 64)
    plan = paper_on_bair()
    outcome = execute(plan, ReproductionOptions(tmp_path / "runs", {"bair": model}, data_root=root), Silent())
    assert {record.protocol.name for record in outcome.records.values() if record.protocol} == {"bair-prediction"}
    assert len(outcome.verdicts) == 1
    settings = outcome.records["langevin"].sampler.settings
    assert (settings["sampler"], settings["reconstruction_weight"]) == ("predictor-corrector", 50.0)


def test_what_is_missing_is_named_and_the_rest_is_run(tmp_path: Path) -> None:
    plan = paper_on_bair()
    lines = "\n".join(plan_lines(plan, ReproductionOptions(tmp_path)))
    assert "- data: bair-prediction needs the dataset bair; give --data-root DIR" in lines
    command = "`vdm-bench train bair --out DIR`"
    assert f"- a model: train one ({command}) and give --checkpoint bair=FILE (ancestral, langevin)" in lines
    outcome = execute(plan, ReproductionOptions(tmp_path), Silent())
    assert outcome.records == {}
    assert outcome.missing.keys() == {"ancestral", "langevin"}
    assert "not run (ancestral, langevin), missing a model" in format_outcome(plan, outcome, "text")
    root = miniatures.write_bair(tmp_path / "bair")
    baseline = dataclasses.replace(plan.cases[0], key="real", model="", sampler="real", options={})
    plan = dataclasses.replace(plan, cases=(baseline, plan.cases[1]))
    outcome = execute(plan, ReproductionOptions(tmp_path / "runs", data_root=root), Silent())
    assert (outcome.records.keys(), outcome.missing.keys()) == ({"real"}, {"langevin"})


def test_weights_that_cannot_be_had_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, **fields: Any) -> None:
        raise InputError(f"{name} cannot be downloaded")

    monkeypatch.setattr(carrying, "provide", unreachable)
    root = miniatures.write_bair(tmp_path / "bair")
    model = save_tiny(tmp_path / "tiny.safetensors", 64)
    means = ReproductionOptions(tmp_path / "runs", {"bair": model}, data_root=root)
    outcome = execute(paper_on_bair("fvd"), means, Silent())
    assert outcome.missing["langevin"] == ["weights: i3d-k400 cannot be downloaded"]
    assert outcome.records == {}
    assert "weights to download\n- i3d-k400" in "\n".join(plan_lines(paper_on_bair("fvd"), means))


@pytest.mark.parametrize(
    ("higher_is_better", "ends", "holds"),
    [
        (False, (-3.0, -1.0), True),
        (False, (1.0, 3.0), False),
        (False, (-1.0, 1.0), None),
        (False, (-1.0, 0.0), None),
        (True, (1.0, 3.0), True),
        (True, (-3.0, -1.0), False),
        (True, (-1.0, 3.0), None),
    ],
)
def test_a_claim_holds_if_the_interval_of_the_difference_excludes_zero(
    higher_is_better: bool, ends: tuple[float, float], holds: bool | None
) -> None:
    difference = Estimate(sum(ends) / 2, *ends, 0.95, "paired")
    claim = Claim("a beats b", "fvd", "a", "b")
    assert verdict(claim, "own", difference, higher_is_better=higher_is_better).holds is holds


def test_a_case_without_a_value_or_an_interval_decides_nothing(tiny: str, tmp_path: Path) -> None:
    """The rest of the table is printed, and says so."""
    plan = small(shapes_plan("2", steps=2))
    outcome = execute(plan, ReproductionOptions(tmp_path, {"shapes": tiny}, limit=CLIPS), Silent())
    (claim,) = plan.claims
    metric = plan.metrics[claim.metric]
    for change in ({"value": None, "status": "lost", "jackknife": ()}, {"jackknife": ()}):
        for key in (claim.better, claim.worse):
            records = dict(outcome.records)
            scores = [
                dataclasses.replace(score, interval=None, **change) if score.metric == metric else score
                for score in records[key].scores
            ]
            records[key] = records[key].model_copy(update={"scores": scores})
            (found,) = carrying._verdicts(plan, records)
            assert (found.difference, found.holds) == (None, None)
            for form in ("text", "json"):
                text = format_outcome(plan, dataclasses.replace(outcome, records=records, verdicts=[found]), form)
                assert "lost" in text or not change.get("status")
                assert form == "json" or "not decided, for lack of a value or an interval" in text


def test_json_has_every_row_every_verdict_and_what_is_missing(tiny: str, tmp_path: Path) -> None:
    plan = small(shapes_plan("2", steps=2))
    outcome = execute(plan, ReproductionOptions(tmp_path, {"shapes": tiny}, limit=CLIPS), Silent())
    content = json.loads(format_outcome(plan, outcome, "json"))
    rows = {row["method"]: row for row in content["rows"]}
    assert len(rows) == len(plan.published)
    own = rows["Video Diffusion Langevin 256 steps"]
    assert (own["text"], own["case"], own["own"]["metric"]) == ("66.92", "langevin", "embedded/fvd")
    assert rows["FitVid"]["own"] is None
    assert content["claims"][0]["difference"]["level"] == 0.95
    assert content["missing"] == {}


def score_of(record: Record, value: float) -> Record:
    scores = [dataclasses.replace(score, value=value, interval=None) for score in record.scores]
    return record.model_copy(update={"scores": scores})


def test_the_difference_to_the_published_figure_stands_beside_an_own_value(tiny: str, tmp_path: Path) -> None:
    plan = small(shapes_plan("2", steps=2))
    made = execute(plan, ReproductionOptions(tmp_path, {"shapes": tiny}, limit=CLIPS), Silent())
    paper = paper_plan("2")
    records: Mapping[str, Record] = {
        key: score_of(record, value).model_copy(
            update={"scores": [dataclasses.replace(score_of(record, value).scores[0], metric="fvd")]}
        )
        for (key, record), value in zip(made.records.items(), (70.0, 60.0), strict=True)
    }
    text = format_outcome(paper, carrying.Outcome(records, {}, []), "text")
    lines = {line.split("   ")[0].strip(): line.split() for line in text.splitlines()}
    assert lines["Video Diffusion ancestral 512 steps"][5:9] == ["68.19", "70.00", "-", "+1.81"]
    assert lines["Video Diffusion Langevin 256 steps"][5:9] == ["66.92", "60.00", "-", "-6.92"]
    assert lines["FitVid"][1:5] == ["93.6", "-", "-", "-"]


def test_the_command_of_a_model() -> None:
    assert Model("a", "ucf101").command == "vdm-bench train ucf101 --out DIR"
