"""The plans of the paper's tables: their settings, their rows, and claims that the published figures bear out."""

import pytest

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.published import published_rows
from vdm_bench.metrics.recipes import recipes
from vdm_bench.reference_model.config import SamplingConfig, get_preset, settings_from_text
from vdm_bench.reference_model.samplers import evaluations
from vdm_bench.reproduction.experiments import ReproductionPlan
from vdm_bench.reproduction.paper import paper_plan
from vdm_bench.reproduction.shapes import shapes_plan

NUMBERS = "123456"
PLANS = [*map(paper_plan, NUMBERS), *map(shapes_plan, NUMBERS[1:])]


def settings(plan: ReproductionPlan) -> dict[str, dict[str, str]]:
    return {
        case.key: {key: value for key, value in case.options.items() if key != "preset"} for case in plan.cases
    }


@pytest.mark.parametrize("number", NUMBERS)
def test_the_published_figures_bear_out_every_claim(number: str) -> None:
    plan = paper_plan(number)
    for claim in plan.claims:
        better, worse = (
            {row.half: row for row in published_rows() if row.table == number
             and (row.method, row.metric) == (plan.case(key).label, claim.metric)}
            for key in (claim.better, claim.worse)
        )  # fmt: skip
        assert better
        assert better.keys() == worse.keys()
        for half, row in better.items():
            gain = row.value - worse[half].value
            assert (gain > 0) == row.higher_is_better, (claim, half)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_row_of_the_papers_model_has_a_run_and_every_run_a_row(number: str) -> None:
    plan = paper_plan(number)
    ours = [row for row in plan.published if row.is_real or number in "456" or "Video Diffusion" in row.method]
    found = [plan.case_of(row) for row in ours]
    assert {case.key for case in found if case} == {case.key for case in plan.cases}
    assert None not in found
    others = [row for row in plan.published if row not in ours]
    assert all(plan.case_of(row) is None for row in others)


def test_the_row_next_to_table_3_is_of_the_run_with_replacement() -> None:
    (row,) = [row for row in published_rows() if row.table == "3-text"]
    case = paper_plan("3").case_of(row)
    assert case is not None
    assert (case.key, case.protocol.name) == (
        "langevin-with-replacement",
        "kinetics600-prediction-with-replacement",
    )
    assert shapes_plan("3").case_of(row) is None


def test_settings_are_those_of_appendix_a() -> None:
    table1, *_ = map(settings, PLANS)
    assert table1 == {"model": {"sampler": "ancestral", "steps": "256", "gamma": "0.1"}, "real": {}}
    for number, steps, weight in (("2", 256, "50.0"), ("3", 128, "9.0")):
        found = settings(paper_plan(number))
        shared = {"gamma": "0.0", "reconstruction_weight": weight}
        assert found["ancestral"] == shared | {"sampler": "ancestral", "steps": str(2 * steps)}
        langevin = shared | {"sampler": "predictor-corrector", "steps": str(steps), "delta": "0.1"}
        assert found["langevin"] == langevin
    text = {"sampler": "ancestral", "steps": "256", "gamma": "0.3"}
    assert settings(paper_plan("4")) == {f"images-{count}": text for count in (0, 4, 8)}
    assert settings(paper_plan("5"))["frameskip-4-weight-5.0"] == text | {"guidance_scale": "5.0"}
    assert settings(paper_plan("6"))["replacement-2.0"].items() > {"method": "replacement"}.items()


def test_models_are_trained_as_appendix_a_says() -> None:
    models = {number: paper_plan(number).models for number in NUMBERS}
    assert models["4"]["images-4"].command == "vdm-bench train text-small --set training.joint_images=4 --out DIR"
    assert [dict(model.training) for model in models["5"].values()] == [{"frame_stride": 1}, {"frame_stride": 4}]
    strides = [case.protocol.stride for case in paper_plan("5").cases]
    assert strides == [1, 1, 1, 4, 4, 4]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.table} {plan.title}")
def test_plans_are_sound(plan: ReproductionPlan) -> None:
    assert len({case.key for case in plan.cases}) == len(plan.cases)
    for case in plan.cases:
        assert case.protocol.generated_count >= (plan.limit or 0)
        if case.model:
            model = plan.models[case.model]
            get_preset(model.preset).override("training", **model.training)
            own = {key: value for key, value in case.options.items() if key != "preset"}
            get_preset(model.preset).sampling.override(settings_from_text(own))
    for published, own in plan.metrics.items():
        assert recipes()[published].higher_is_better is recipes()[own].higher_is_better
        assert any(own in case.protocol.metrics for case in plan.cases)
    for claim in plan.claims:
        assert plan.case(claim.better).protocol == plan.case(claim.worse).protocol


@pytest.mark.parametrize("steps", [2, 64])
def test_langevin_and_ancestral_cost_the_same_on_shapes(steps: int) -> None:
    counts = {
        evaluations(SamplingConfig().override(settings_from_text(options)))
        for options in settings(shapes_plan("2", steps=steps)).values()
    }
    assert counts == {steps}


def test_claims_whose_metric_has_no_stand_in_are_left_out_on_shapes() -> None:
    assert {claim.metric for claim in shapes_plan("5").claims} == {"fvd", "is/frames-avg"}
    assert len(shapes_plan("4", training_steps=7).models) == 3
    assert {model.training["steps"] for model in shapes_plan("4", training_steps=7).models.values()} == {7}


@pytest.mark.parametrize(
    ("number", "steps", "message"), [("1", 64, "table 1 compares"), ("2", 3, "--steps 3"), ("2", 0, "--steps 0")]
)
def test_what_cannot_be_planned_on_shapes_is_refused(number: str, steps: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shapes_plan(number, steps=steps)
