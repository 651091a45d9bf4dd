"""Files of text embeddings: every bit comes back, and others are refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_bert import LONG, SHORT, WIDTH, sentence

from vdm_bench.errors import InputError
from vdm_bench.reference_model.text.embeddings import Storage, caption_digest
from vdm_bench.reference_model.text.encoding import TextEmbeddings, load_text


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
