"""Text embeddings: by a tiny random BERT, which goes through the same code as a large one, and from files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertForPreTraining

from vdm_bench.errors import InputError
from vdm_bench.reference_model.text.bert import DEFAULT_ENCODER, DEFAULT_REVISION
from vdm_bench.reference_model.text.embeddings import Storage, caption_digest
from vdm_bench.reference_model.text.encoding import TextEmbeddings, TextEncoder, encode, load_encoder, load_text

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "blue",
    "circle",
    "square",
    "move",
    "##s",
    "up",
]
SHORT, LONG = "a circle", "a red square moves up"
WIDTH = 32


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as BERT's authors publish it: config, vocabulary, weights with heads that are not needed."""
    return write_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def encoder(bert: Path) -> TextEncoder:
    return load_encoder(bert, max_tokens=8)


@pytest.fixture(scope="session")
def embeddings(encoder: TextEncoder) -> TextEmbeddings:
    return encode([LONG, "a blue circle", SHORT], encoder)


@pytest.fixture
def folder(bert: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(bert, tmp_path / "bert"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache, empty, where no network is."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def write_bert(folder: Path, vocabulary: int = len(WORDS)) -> Path:
    folder.mkdir()
    folder.joinpath("vocab.txt").write_text("\n".join(WORDS), "utf-8")
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=80,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertForPreTraining(config).save_pretrained(folder)
    return folder


def change_weights(folder: Path, rename: dict[str, str]) -> None:
    """Rename a part of names of the weights; to the empty string: leave them out."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for old, new in rename.items():
        tensors = {k.replace(old, new): v for k, v in tensors.items() if new or old not in k}
    save_file(tensors, path, {"format": "pt"})


def sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- embeddings


def test_embeddings_are_last_hidden_states_between_cls_and_sep(bert: Path, embeddings: TextEmbeddings) -> None:
    ids = torch.tensor([[WORDS.index(word) for word in ("[CLS]", "a", "circle", "[SEP]")]])
    with torch.no_grad():
        expected = AutoModel.from_pretrained(bert).eval()(input_ids=ids).last_hidden_state
    batch = embeddings.batch([SHORT])
    assert batch.embeddings.dtype == torch.float32
    assert batch.mask.tolist() == [[True] * 4]
    torch.testing.assert_close(batch.embeddings, expected, rtol=0, atol=1e-5)


def test_a_caption_has_the_same_embedding_alone_and_in_a_batch(encoder: TextEncoder) -> None:
    alone = encode([SHORT], encoder).batch([SHORT])
    together = encode([LONG, SHORT, "up"], encoder, batch_size=3).batch([LONG, SHORT])
    assert together.mask.sum(1).tolist() == [8, 4]
    torch.testing.assert_close(together.embeddings[1, :4], alone.embeddings[0], rtol=0, atol=1e-5)


def test_where_no_token_is_the_embedding_is_zero(embeddings: TextEmbeddings) -> None:
    batch = embeddings.batch([SHORT, LONG], length=10)
    assert batch.embeddings.shape == (2, 10, WIDTH)
    assert batch.embeddings[0, 4:].eq(0).all()
    assert batch.embeddings[batch.mask].ne(0).all()
    assert batch.mask.sum(1).tolist() == [4, 8]


def test_the_words_matter_and_their_order(encoder: TextEncoder) -> None:
    texts = ["red circle", "circle red", "blue circle"]
    first = encode(texts, encoder).batch(texts).embeddings
    assert (first[0] - first[1]).abs().max() > 0.1
    assert (first[0] - first[2]).abs().max() > 0.1


def test_the_empty_caption_is_unconditional_and_needs_no_embedding(embeddings: TextEmbeddings) -> None:
    batch = embeddings.batch(["", SHORT, " \n"])
    assert batch.mask.any(1).tolist() == [False, True, False]
    assert batch.embeddings[0].eq(0).all()
    alone = embeddings.batch([""])
    assert alone.mask.tolist() == [[False]]


def test_only_empty_captions_can_be_encoded(encoder: TextEncoder) -> None:
    empty = encode(["", ""], encoder)
    assert len(empty) == 0
    assert empty.batch(["", ""]).embeddings.shape == (2, 1, WIDTH)


def test_captions_are_found_in_any_order_and_whatever_their_white_space(embeddings: TextEmbeddings) -> None:
    one, two = embeddings.batch([SHORT, LONG]).embeddings
    other = embeddings.batch([LONG, "  a\tcircle\n", LONG]).embeddings
    assert torch.equal(other, torch.stack([two, one, two]))


def test_each_text_is_encoded_once(encoder: TextEncoder) -> None:
    seen: list[tuple[int, int]] = []
    result = encode(
        [SHORT, " a  circle", LONG, SHORT], encoder, batch_size=1, progress=lambda *at: seen.append(at)
    )
    assert len(result) == 2
    assert seen == [(1, 2), (2, 2)]


def test_long_captions_are_cut_and_counted(encoder: TextEncoder) -> None:
    long = "a red square moves up up up"
    result = encode([long, LONG, SHORT], encoder)
    assert result.cut == 1
    assert "1 truncated to 8 tokens" in result.report
    # What is left is "a red square moves up", and [SEP] still closes it.
    batch = result.batch([long, LONG])
    torch.testing.assert_close(batch.embeddings[0], batch.embeddings[1], rtol=0, atol=1e-5)


def test_long_captions_are_refused_where_asked(encoder: TextEncoder) -> None:
    with pytest.raises(
        InputError, match="1 captions have more than 8 tokens, the first being 'a red square"
    ) as error:
        encode([SHORT, "a red square moves up up"], encoder, too_long="refuse")
    sentence(error)


def test_captions_with_unknown_words_are_counted(encoder: TextEncoder) -> None:
    assert encode([SHORT, "a green circle", "a GRÜN circle"], encoder).unknown == 2


@pytest.mark.parametrize("captions", ["a circle", [SHORT, None]])
def test_captions_must_be_a_list_of_texts(encoder: TextEncoder, captions: list[str]) -> None:
    with pytest.raises(InputError, match="give"):
        encode(captions, encoder)


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


# --- files


def test_a_file_gives_back_every_bit(embeddings: TextEmbeddings, tmp_path: Path) -> None:
    embeddings.save(tmp_path / "text.safetensors")
    loaded = TextEmbeddings.load(tmp_path / "text.safetensors", width=WIDTH)
    texts = ["a blue circle", "", LONG]
    assert torch.equal(loaded.batch(texts).embeddings, embeddings.batch(texts).embeddings)
    assert torch.equal(loaded.batch(texts).mask, embeddings.batch(texts).mask)
    assert loaded.encoder == embeddings.encoder
    assert loaded.encoder.name == "tiny-bert"
    assert loaded.report == embeddings.report


def test_float16_halves_the_file_and_rounds(embeddings: TextEmbeddings, tmp_path: Path) -> None:
    embeddings.save(tmp_path / "text.safetensors", storage="float16")
    assert load_file(tmp_path / "text.safetensors")["tokens"].dtype == torch.float16
    loaded, exact = (
        it.batch([LONG]).embeddings for it in (TextEmbeddings.load(tmp_path / "text.safetensors"), embeddings)
    )
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded, exact, rtol=2**-11, atol=1e-7)
    assert not torch.equal(loaded, exact)


def test_the_text_of_a_caption_is_not_in_the_file(embeddings: TextEmbeddings, tmp_path: Path) -> None:
    embeddings.save(tmp_path / "text.safetensors")
    content = (tmp_path / "text.safetensors").read_bytes()
    assert caption_digest(LONG) in content
    assert b"square" not in content


def test_a_file_may_be_replaced_while_it_is_in_use(embeddings: TextEmbeddings, tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    embeddings.save(path)
    loaded = TextEmbeddings.load(path)
    loaded.save(path, storage="float16")
    assert torch.equal(loaded.batch([LONG]).embeddings, embeddings.batch([LONG]).embeddings)
    assert [item.name for item in tmp_path.iterdir()] == ["text.safetensors"]


def test_no_file_is_written_whose_values_float16_cannot_hold(embeddings: TextEmbeddings, tmp_path: Path) -> None:
    large = TextEmbeddings(embeddings.tokens * 1e6, embeddings.lengths, embeddings.digests, embeddings.encoder)
    with pytest.raises(InputError, match="store them as float32"):
        large.save(tmp_path / "text.safetensors", storage="float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "storage"), [("text.pt", "float32"), ("text.safetensors", "int8")])
def test_other_kinds_of_file_are_not_written(
    embeddings: TextEmbeddings, tmp_path: Path, name: str, storage: Storage
) -> None:
    with pytest.raises(InputError, match=r"must end in .safetensors|none of float32, float16"):
        embeddings.save(tmp_path / name, storage=storage)


def test_a_missing_caption_is_named(embeddings: TextEmbeddings) -> None:
    assert SHORT in embeddings
    assert "a square" not in embeddings
    with pytest.raises(InputError, match="none of the caption 'a square' and of 1 more; encode these") as error:
        embeddings.batch([SHORT, "a square", "a square", "up"])
    sentence(error)


def test_a_length_below_that_of_a_caption_is_refused(embeddings: TextEmbeddings) -> None:
    with pytest.raises(InputError, match="8 tokens, more than the length 7"):
        embeddings.batch([SHORT, LONG], length=7)


def test_files_that_are_no_embeddings_are_refused(embeddings: TextEmbeddings, bert: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    embeddings.save(path)
    whole = path.read_bytes()
    cases = {
        "cut.safetensors": (whole[:-100], "is truncated, or not safetensors"),
        "empty.safetensors": (b"", "is truncated, or not safetensors"),
        "pickle.safetensors": (b"\x80\x04]q\x00." * 40, "is truncated, or not safetensors"),
        "bert.safetensors": (
            (bert / "model.safetensors").read_bytes(),
            "holds no text embeddings; .* give the folder",
        ),
        "text.txt": (b"a red circle\n", "is truncated, or not safetensors"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message) as error:
            load_text([SHORT], tmp_path / name)
        assert name in sentence(error)
    with pytest.raises(InputError, match=r"not-there.safetensors: no such file; give another") as error:
        load_text([SHORT], tmp_path / "not-there.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": torch.tensor([8, 5, 3])}, "add up to 16, but there are 17 tokens"),
        ({"lengths": torch.tensor([8, 9, 0])}, "add up"),
        ({"lengths": torch.tensor([8.0, 5.0, 4.0])}, "not int64"),
        ({"captions": torch.zeros(3, 32, dtype=torch.uint8)}, "occurs twice"),
        ({"captions": torch.zeros(2, 32, dtype=torch.uint8)}, r"not uint8 \[3, 32\]"),
        ({"tokens": torch.zeros(17, WIDTH, dtype=torch.int64)}, "not float"),
        ({"tokens": torch.zeros(17)}, "not float"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(
    embeddings: TextEmbeddings, tmp_path: Path, change: dict[str, torch.Tensor], message: str
) -> None:
    path = tmp_path / "text.safetensors"
    embeddings.save(path)
    save_file({**load_file(path), **change}, path, header(embeddings))
    with pytest.raises(InputError, match=f"text.safetensors is damaged .*{message}") as error:
        TextEmbeddings.load(path)
    sentence(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2 .* reads 1"),
        ({"encoder": {}}, "the header of .* is damaged: its field 'name' is missing; encode the captions again"),
        ({"cut": "x"}, "its field 'cut' is a text, not a whole number from 0 on"),
        ({"cut": -1}, "its field 'cut' is -1, not a whole number from 0 on"),
    ],
)
def test_a_file_with_another_header_is_refused(
    embeddings: TextEmbeddings, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "text.safetensors"
    embeddings.save(path)
    save_file(load_file(path), path, header(embeddings, **change))
    with pytest.raises(InputError, match=message):
        TextEmbeddings.load(path)


def header(embeddings: TextEmbeddings, **change: object) -> dict[str, str]:
    content = {"format": 1, "encoder": vars(embeddings.encoder), "cut": 0, "unknown": 0, **change}
    return {"vdm_bench_text": json.dumps(content)}


# --- where text comes from


def test_a_folder_and_the_file_made_from_it_give_the_same(bert: Path, tmp_path: Path) -> None:
    direct = load_text([SHORT, LONG, ""], bert, text_dim=WIDTH, max_tokens=8)
    direct.save(tmp_path / "text.safetensors")
    stored = load_text([LONG, ""], tmp_path / "text.safetensors", text_dim=WIDTH)
    assert torch.equal(stored.batch([LONG, "", SHORT]).embeddings, direct.batch([LONG, "", SHORT]).embeddings)


def test_embeddings_of_another_width_than_the_models_are_refused(bert: Path, tmp_path: Path) -> None:
    load_text([SHORT], bert, max_tokens=8).save(tmp_path / "text.safetensors")
    for source in (bert, tmp_path / "text.safetensors"):
        with pytest.raises(InputError, match=r"32 wide.* but the model's text_dim is 1024; give") as error:
            load_text([SHORT], source, text_dim=1024, max_tokens=8)
        sentence(error)


def test_a_file_without_the_caption_is_refused_before_work_begins(bert: Path, tmp_path: Path) -> None:
    load_text([SHORT], bert, max_tokens=8).save(tmp_path / "text.safetensors")
    with pytest.raises(
        InputError, match=r"text.safetensors have none of the caption 'a red square moves up'; encode"
    ):
        load_text([SHORT, LONG], tmp_path / "text.safetensors")


def test_captions_without_text_weights_are_refused() -> None:
    with pytest.raises(InputError, match="captions need a text encoder or a file of embeddings"):
        load_text([SHORT], None)
    with pytest.raises(InputError, match="model was trained without text"):
        load_text([SHORT], None, text_dim=0)


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


@pytest.mark.parametrize("max_tokens", [2, 81])
def test_max_tokens_must_lie_within_the_encoders_positions(bert: Path, max_tokens: int) -> None:
    with pytest.raises(InputError, match=f"max_tokens {max_tokens} is not between 3 and the 80 positions"):
        load_encoder(bert, max_tokens=max_tokens)


def test_files_need_no_transformers_and_an_encoder_says_that_it_does(
    embeddings: TextEmbeddings, bert: Path, tmp_path: Path
) -> None:
    embeddings.save(tmp_path / "text.safetensors")
    program = f"""
import sys
sys.modules["transformers"] = None
from vdm_bench.reference_model.text.encoding import load_text
from vdm_bench.errors import InputError
print(load_text([{LONG!r}], {str(tmp_path / "text.safetensors")!r}).batch([{LONG!r}]).mask.sum().item())
try:
    load_text([{LONG!r}], {str(bert)!r})
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, message = done.stdout.splitlines()
    assert count == "8"
    assert "pip install 'vdm-bench[text]', or give a file of embeddings" in message
