"""Text embeddings: by a tiny random BERT, which goes through the same code as a large one, and from files."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_bert import LONG, SHORT, WIDTH, WORDS, sentence
from transformers import AutoModel

from vdm_bench.errors import InputError
from vdm_bench.reference_model.text.encoding import TextEmbeddings, TextEncoder, encode, load_encoder, load_text

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


# --- files


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
