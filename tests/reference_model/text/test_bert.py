"""Encoders from folders and from the hub's cache: what is loaded, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_bert import SHORT, WORDS, change_weights, sentence, write_bert

from vdm_bench.errors import InputError
from vdm_bench.reference_model.text.bert import DEFAULT_ENCODER, DEFAULT_REVISION
from vdm_bench.reference_model.text.encoding import TextEncoder, load_encoder, load_text


def test_loading_an_encoder_leaves_the_global_random_state_alone(folder: Path) -> None:
    change_weights(folder, {"pooler": ""})  # so that there is something to draw at random
    before = torch.random.get_rng_state()
    load_encoder(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_loading_an_encoder_says_nothing(bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_encoder(bert, max_tokens=8)
    assert capfd.readouterr() == ("", "")


def test_weights_under_the_names_of_2018_are_the_same_encoder(folder: Path, encoder: TextEncoder) -> None:
    change_weights(folder, {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"})
    assert load_encoder(folder, max_tokens=8).info.digest == encoder.info.digest


def test_an_encoder_is_known_by_its_weights_and_not_by_its_folder(folder: Path, encoder: TextEncoder) -> None:
    change_weights(folder, {"pooler": ""})  # not used; random from now on
    assert load_encoder(folder).info.digest == encoder.info.digest
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text("utf-8").replace("red\nblue", "blue\nred"), "utf-8")
    assert load_encoder(folder).info.digest != encoder.info.digest


@pytest.mark.parametrize("source", ["./bert", "/nowhere/bert", "models/of/mine"])
def test_a_folder_that_is_not_there_is_no_name_on_the_hub(source: str) -> None:
    with pytest.raises(InputError, match=f"there is no folder {source} with a text encoder; give a folder"):
        load_text([SHORT], source)


def test_a_hub_that_cannot_be_reached_is_one_sentence(hub: Path) -> None:
    with pytest.raises(
        InputError, match=f"no folder {DEFAULT_ENCODER}, and the Hugging Face hub does not"
    ) as error:
        load_encoder()
    assert "give a folder with config.json" in sentence(error)
    with pytest.raises(InputError, match=r"no folder a name, .*HFValidationError"):
        load_encoder("a name")


def test_what_is_in_the_hubs_cache_is_used_and_its_commit_kept(hub: Path, bert: Path) -> None:
    commit = publish(hub, bert, "someone/tiny", "01" * 20)
    for revision in (None, commit):
        info = load_encoder("someone/tiny", revision=revision, max_tokens=8).info
        assert (info.name, info.revision) == ("someone/tiny", commit)


def test_the_default_encoder_is_the_same_whatever_is_published_later(hub: Path, bert: Path) -> None:
    publish(hub, bert, DEFAULT_ENCODER, DEFAULT_REVISION)
    later = publish(hub, bert, DEFAULT_ENCODER, "02" * 20)
    assert load_encoder().info.revision == DEFAULT_REVISION
    assert load_encoder(revision="main").info.revision == later


def publish(hub: Path, folder: Path, name: str, commit: str) -> str:
    """Put a folder into the hub's cache, as the newest commit of a repository."""
    repository = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return commit


def test_a_pickle_is_not_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    assert load_encoder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no text encoder can be loaded from .*; give a folder with") as error:
        load_encoder(folder)
    sentence(error)


def test_a_folder_that_is_not_whole_is_refused(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    damage: dict[str, list[bytes | None]] = {
        "model.safetensors": [weights[:-100], b"weights"],
        "config.json": [b"{", b"{}", None],
        "vocab.txt": [None],
    }
    for name, contents in damage.items():
        whole = (folder / name).read_bytes()
        for content in contents:
            (folder / name).unlink()
            if content is not None:
                (folder / name).write_bytes(content)
            with pytest.raises(
                InputError, match=r"no text encoder can be loaded|knows no word|has no config.json"
            ) as error:
                load_encoder(folder)
            assert str(folder) in sentence(error)
            (folder / name).write_bytes(whole)
    assert load_encoder(folder)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} has no config.json of a text encoder; give a folder with"):
        load_text([SHORT], tmp_path)


def test_weights_that_are_missing_are_not_filled_with_random_ones(folder: Path) -> None:
    change_weights(folder, {"layer.1.attention": ""})
    with pytest.raises(
        InputError, match=r"lacks weights of its text encoder, such as .*encoder.layer.1.attention"
    ):
        load_encoder(folder)


def test_a_decoder_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "is_decoder": True}), "utf-8")
    with pytest.raises(InputError, match=r"is not an encoder alone \(bert\); give a BERT"):
        load_encoder(folder)


def test_embeddings_that_are_not_finite_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["bert.embeddings.word_embeddings.weight"][WORDS.index("red")] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert load_text(["a circle"], folder)
    with pytest.raises(InputError, match="encoder bert returns embeddings that are not finite"):
        load_text(["a red circle"], folder)


def test_a_tokenizer_of_another_encoder_is_refused(folder: Path) -> None:
    with (folder / "vocab.txt").open("a") as file:
        file.write("\ngreen")
    with pytest.raises(
        InputError, match="has 14 tokens, its model 13: the vocabulary is truncated, or they are of"
    ):
        load_encoder(folder)


def test_a_truncated_vocabulary_is_refused_and_a_padded_one_is_not(tmp_path: Path) -> None:
    assert load_encoder(write_bert(tmp_path / "rounded", vocabulary=len(WORDS) + 127))
    with pytest.raises(InputError, match="has 13 tokens, its model 141: the vocabulary is truncated"):
        load_encoder(write_bert(tmp_path / "cut", vocabulary=len(WORDS) + 128))
