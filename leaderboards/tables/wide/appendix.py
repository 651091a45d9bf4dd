"""How numbers were computed: a LaTeX sentence per signature, for the appendix of a paper, and whom to cite.

The sentences are made from signatures alone. What a signature holds that has no words here is quoted as it is.
"""

import re
from collections.abc import Iterable, Iterator

from vdm_bench.leaderboards.published import bibtex_entries
from vdm_bench.leaderboards.text import latex_text
from vdm_bench.metrics.score import Score, Signature

# Whom to cite, by a pattern that matches a signature.
_PAPERS = (
    (r"(embedded/)?fvd\b.*\|root:", "arXiv:1812.01717"),
    (r"kvd\b", "arXiv:1812.01717"),
    (r"(?!.*fvd).*\|root:", "arXiv:1706.08500"),
    (r".*\|splits:", "arXiv:1606.03498"),
    (r".*\|kernel:poly", "arXiv:1801.01401"),
    (r"prdc/(precision|recall)\b", "arXiv:1904.06991"),
    (r"prdc/(density|coverage)\b", "arXiv:2002.09797"),
    (r".*\|net:i3d", "arXiv:1705.07750"),
    (r".*\|net:c3d", "arXiv:1412.0767"),
    (r"c3d/(is|fid)\|", "arXiv:1811.09245"),
    (r".*\|net:inception", "arXiv:1512.00567"),
    (r"[^|]*stylegan-v", "arXiv:2112.14683"),
    (r"[^|]*videogpt", "arXiv:2104.10157"),
    (r"[^|]*content-debiased", "arXiv:2404.12391"),
)
_STATISTICS = (("root", "Frechet distance"), ("splits", "inception score"), ("knn", "nearest-neighbour measure"))
_WORDS = {
    "view": "generated clips read by {}",
    "fps": "sampled at {} frames per second",
    "task": "task {}",
    "src": "{} generated clips",
    "cov": "covariance divisor {}",
    "root": "root rule {}",
    "splits": "splits {}",
    "kernel": "kernel {}",
    "knn": "{} nearest neighbours",
    "cap": "cap {}",
    "prec": "precision {}",
}


def sources(scores: Iterable[Score]) -> list[str]:
    """Return the papers to cite for scores, such as `arXiv:1812.01717`, each once."""
    signatures = [score.signature for score in scores]
    return list(dict.fromkeys(paper for text in signatures for paper in _sources(text)))


def _sources(signature: str) -> list[str]:
    return list(dict.fromkeys(paper for pattern, paper in _PAPERS if re.match(pattern, signature)))


def citations(scores: Iterable[Score]) -> str:
    """Return the BibTeX entries of the papers to cite for scores; empty if there are none."""
    entries = bibtex_entries()
    return "\n".join(entries[source] for source in sources(scores))


def appendix(scores: Iterable[Score]) -> Iterator[str]:
    r"""Yield a LaTeX sentence per score that says how it was computed and cites its papers.

    Args:
        scores: one score per signature.
    """
    entries = bibtex_entries()
    for score in scores:
        keys = [entries[source].partition("{")[2].partition(",")[0] for source in _sources(score.signature)]
        cite = rf"~\cite{{{','.join(keys)}}}" if keys else ""
        metric, digest = (rf"\texttt{{{latex_text(text)}}}" for text in (score.metric, score.digest))
        signature = Signature.parse(score.signature)
        version = dict(signature.fields).get("v", "")
        words = latex_text("; ".join(_words(signature)))
        yield f"{metric}{cite} was computed with vdm-bench {latex_text(version)} (digest {digest}): {words}."


def _words(signature: Signature) -> Iterator[str]:
    fields = dict(signature.fields)
    if "net" in fields:
        yield _network(signature, fields.pop("net"))
    if "n" in fields:
        reference = fields.pop("ref", "").rpartition("/")
        against = f" against {reference[2]} reference clips ({reference[0]})" if reference[2] else ""
        yield f"{fields.pop('n')} generated clips{against}"
    if "in" in fields:
        yield _input(fields.pop("in"))
    fields.pop("v", None)
    yield from (_WORDS.get(key, f"{key}:{{}}").format(value) for key, value in fields.items())


def _network(signature: Signature, network: str) -> str:
    keys = dict(signature.fields)
    statistic = next((name for key, name in _STATISTICS if key in keys), "score")
    name, at, rest = network.partition("@")
    weights, colon, layer = rest.partition(":")
    if not (at and colon):
        return f"{statistic} on {network}"
    return f"{statistic} on the {layer} of {name} (weights {weights})"


def _input(text: str) -> str:
    """Return `16x32x32>32:antialias:stretch` as text."""
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)(?:>(\d+):([\w-]+):([\w-]+))?", text)
    if found is None:
        return f"input {text}"
    frames, height, width, size, resize, aspect = found.groups()
    clips = f"{frames} frames of {width}x{height} pixels"
    return f"{clips}, resized to {size}x{size} (resize rule {resize}, aspect rule {aspect})" if size else clips
