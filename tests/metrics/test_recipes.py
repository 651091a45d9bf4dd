from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from vdm_bench.errors import InputError
from vdm_bench.metrics import recipes as module
from vdm_bench.metrics.networks import network_names
from vdm_bench.metrics.recipes import Recipe, get_recipe, get_recipes, recipes
from vdm_bench.metrics.statistics import PRDC, Frechet, InceptionScore, KernelDistance


def test_every_recipe_names_a_network_that_is_installed() -> None:
    assert {recipe.network for recipe in recipes().values()} == {
        *("embedded", "i3d-k400", "i3d-k600", "c3d-ucf101", "inception-2015")
    }
    assert {recipe.network for recipe in recipes().values()} <= set(network_names())


def test_the_original_fvd_leaves_everything_to_its_network() -> None:
    assert get_recipe("fvd") == Recipe(
        "fvd", "FVD, the original (Unterthiner et al. 2018)", "i3d-k400", "logits", Frechet(1, "factor")
    )


@pytest.mark.parametrize(
    ("name", "pixels", "statistic"),
    [
        ("fvd/stylegan-v", ("half-pixel", "center-crop", "static"), Frechet(ddof=0)),
        ("fvd/videogpt", ("half-pixel", "short-side", None), Frechet(root="tf-gan-fp32")),
        ("fvd/content-debiased-i3d", ("half-pixel", None, None), Frechet(ddof=0)),
        ("fvd/half-pixel", ("half-pixel", None, None), Frechet()),
        ("c3d/is-stylegan-v", (None, None, None), InceptionScore(splits=10, shuffle_seed=42)),
        ("kvd", (None, None, None), KernelDistance(degree=3, coef0=1.0, estimator="unbiased")),
        ("prdc/coverage", (None, None, None), PRDC("coverage", 5)),
    ],
)
def test_other_peoples_recipes(name: str, pixels: tuple[str | None, ...], statistic: object) -> None:
    recipe = get_recipe(name)
    assert (recipe.resize, recipe.aspect, recipe.padding) == pixels
    assert recipe.statistic == statistic


def test_videogpts_port_computes_with_another_epsilon() -> None:
    assert {name: recipe.epsilon for name, recipe in recipes().items() if recipe.epsilon} == {
        "fvd/videogpt": 1e-5,
        "fvd/content-debiased-i3d": 1e-5,
    }


def test_a_family_is_all_its_members() -> None:
    assert [r.name for r in get_recipes("prdc")] == [
        f"prdc/{measure}" for measure in ("precision", "recall", "density", "coverage")
    ]
    with pytest.raises(InputError, match="'prdc' is several metrics; choose one of prdc/precision, "):
        get_recipe("prdc")
    assert [r.name for r in get_recipes("fvd")] == ["fvd"]  # a name goes before a family


def test_a_user_adds_a_recipe_as_toml(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "fvd/mine"\nbase = "fvd"\nresize = "antialias"\nstatistic = {kind = "frechet", ddof = 0}'
    )
    assert get_recipe(str(file)) == Recipe(
        "fvd/mine", "fvd, changed", "i3d-k400", "logits", Frechet(ddof=0), resize="antialias"
    )
    file.write_text('name = "x"\ntitle = "t"\nnetwork = "my-net"\nlayer = "pool"\nstatistic = {kind = "kernel"}')
    assert get_recipe(str(file)) == Recipe("x", "t", "my-net", "pool", KernelDistance())


def test_a_recipe_saved_with_a_byte_order_mark_is_read_and_utf_16_is_named(tmp_path: Path) -> None:
    file, text = tmp_path / "mine.toml", 'name = "mine"\nbase = "fvd"\ntitle = "größer"\n'
    file.write_text(text, "utf-8-sig")
    assert get_recipe(str(file)).title == "größer"
    file.write_text(text, "utf-16")
    with pytest.raises(InputError, match=r"mine\.toml cannot be read: it is UTF-16; save it as UTF-8"):
        get_recipe(str(file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "fvd"\nbase = "fvd"', "calls itself 'fvd', which is taken"),
        ('name = "x"\nbase = "fvdd"', "did you mean 'fvd'"),
        ('name = "x"\nbase = "fvd"\nsize = 3', "there is no key 'size'; known are aspect, epsilon, layer"),
        ('name = "x"', "the key 'layer' is missing"),
        ('name = "a|b"\nbase = "fvd"', r"name must be a text without '\|'"),
        ('name = 3\nbase = "fvd"', "name must be a text"),
        ('name = "x"\nbase = "fvd"\nresize = "bicubic"', "resize must be one of tf1-bilinear, half-pixel"),
        ('name = "x"\nbase = "fvd"\nepsilon = 3', "epsilon must be a number between 0 and 1"),
        ('name = "x"\nbase = "fvd"\nstatistic = "frechet"', "statistic needs a kind, one of frechet, "),
        ('name = "x"\nbase = "fvd"\nstatistic = {kind = "mmd"}', "statistic needs a kind"),
        ('name = "x"\nbase = "fvd"\nstatistic = {kind = "frechet", k = 5}', "statistic: there is no key 'k'"),
        ('name = "x"\nbase = "fvd"\nstatistic = {kind = "frechet", ddof = 2}', "ddof"),
        ('name = "x"\nbase = "fvd"\nstatistic = {kind = "frechet", root = "sqrtm"}', "root"),
        ('name = "x"\nbase = "fvd"\nstatistic = {kind = "inception-score", splits = 0}', "splits"),
        ('name = "x"\nbase = "fvd"\nstatistic = {kind = "neighbours", measure = "realism"}', "measure"),
        ('name = "x"\nbase = "fvd"\nstatistic = {kind = "neighbours"}', "measure"),
        ('name = "x"\nbase = "fvd"\nstatistic = {kind = "neighbours", measure = "recall", k = "5"}', "k"),
        ("name =", "is not TOML"),
    ],
)
def test_an_unsound_recipe_is_refused_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        get_recipe(str(file))
    assert "fvdd" in text or "bad.toml" in str(caught.value)


def test_a_missing_file_and_an_unknown_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"nowhere.toml cannot be read"):
        get_recipe("nowhere.toml")
    with pytest.raises(InputError, match="unknown metric 'zzz'; `vdm-bench list metrics` shows them"):
        get_recipe("zzz")


def test_a_package_adds_recipes_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = Recipe("theirs/fvd", "theirs", "embedded", "features", Frechet())
    monkeypatch.setattr(module, "_theirs", extra, raising=False)
    point = EntryPoint("theirs/fvd", "vdm_bench.metrics.recipes:_theirs", module.GROUP)
    monkeypatch.setattr(module, "entry_points", lambda group: [point])
    assert get_recipe("theirs/fvd") is extra
    assert get_recipe("fvd").network == "i3d-k400"
