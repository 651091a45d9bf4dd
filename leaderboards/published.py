"""Results as papers published them: tables 1 to 6 of Ho et al. 2022 (arXiv 2204.03458) and later rows.

The rows are in `published_data/published.csv`, the papers in `published_data/published.bib`; both are validated
when they are read. A published number has no signature: what is known about its computation is in the row's
protocol, group and caveats.
"""

import csv
import functools
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vdm_bench.errors import InputError

__all__ = ["PublishedRow", "citation", "published_rows"]

# The two numbers of a published pair a/b: of FVD and FID, then of IS.
Half = Literal["training set", "validation set", "1 split", "10 splits"]
HALVES: tuple[Half, ...] = get_args(Half)

REAL = "real data"  # the "method" of real clips

CSV_FILE = "published.csv"
BIB_FILE = "published.bib"
METRICS_BIB_FILE = "metrics.bib"


@dataclass(frozen=True)
class PublishedRow:
    """One published number.

    Attributes:
        table: table of Ho et al. 2022, `1` to `6`; `3-text` for the text next to table 3; `later` for another
            paper.
        method: name of the model, as the source writes it.
        protocol: name of the protocol of this package that the number follows most closely.
        group: empty if the number follows the protocol, as far as the source says; otherwise how it deviates, in
            a few words, such as `128x128`. Rows with the same protocol, metric and group are ranked together.
        metric: name of the metric in this package.
        value: the number.
        spread: the number after its plus-minus sign, or None; the source decides what it measures.
        higher_is_better: direction of the metric.
        caveats: what a reader needs to know about the number.
        source: paper that states it, such as `arXiv:2204.03458`.
        text: the number exactly as published, such as `26.60`.
        spread_text: the spread exactly as published; empty where there is none.
        half: which number of a pair a/b in tables 4 to 6 this is: `training set` or `validation set`, `1 split`
            or `10 splits`; `group` ends in it. Empty if there is no pair.
    """

    table: str
    method: str
    protocol: str
    group: str
    metric: str
    value: float
    spread: float | None
    higher_is_better: bool
    caveats: tuple[str, ...]
    source: str
    text: str
    spread_text: str = ""
    half: str = ""

    @property
    def is_real(self) -> bool:
        """Whether it is the score of real clips, not of a model."""
        return self.method == REAL

    @property
    def pair(self) -> str:
        """The group without `half`: the same for both numbers of a pair a/b."""
        return self.group.removesuffix(self.half).removesuffix(", ") if self.half else self.group

    @property
    def printed(self) -> str:
        """The number with its spread, exactly as published."""
        return f"{self.text} ± {self.spread_text}" if self.spread_text else self.text


@dataclass(frozen=True)
class Paper:
    """A paper that states results.

    Attributes:
        source: such as `arXiv:2204.03458`.
        title: of the paper.
        authors: the first one, `et al.` if there are more.
        year: of the paper.
        url: of the paper.
        code: of its models; empty if it has none.
    """

    source: str
    title: str
    authors: str
    year: int
    url: str
    code: str = ""

    @property
    def short_title(self) -> str:
        """The title without its subtitle."""
        return self.title.partition(":")[0]


_Number = Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")]
_Line = Annotated[str, Field(pattern=r"^\S(.*\S)?$")]


class _CsvRow(BaseModel):
    """A row of the CSV file; the fields are in the order of its columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Literal["1", "2", "3", "4", "5", "6", "3-text", "later"]
    method: _Line
    protocol: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    group: Literal[""] | _Line
    half: Literal[""] | Half
    metric: Annotated[str, Field(pattern=r"^[a-z0-9/-]+$")]
    value: _Number
    spread: Literal[""] | _Number
    higher_is_better: Literal["yes", "no"]
    caveats: Literal[""] | _Line
    source: Annotated[str, Field(pattern=r"^arXiv:\d{4}\.\d{5}$")]

    def published(self) -> PublishedRow:
        return PublishedRow(
            table=self.table,
            method=self.method,
            protocol=self.protocol,
            group=", ".join(filter(None, (self.group, self.half))),
            metric=self.metric,
            value=float(self.value),
            spread=float(self.spread) if self.spread else None,
            higher_is_better=self.higher_is_better == "yes",
            caveats=tuple(self.caveats.split("; ")) if self.caveats else (),
            source=self.source,
            text=self.value,
            spread_text=self.spread,
            half=self.half,
        )


def published_rows(protocol: str | None = None) -> tuple[PublishedRow, ...]:
    """Return the published rows of a protocol, or of all, in the order of the file: tables 1 to 6 first.

    The tuple is empty if nothing was published for the protocol.

    Raises:
        InputError: the package's CSV file is damaged.
    """
    return tuple(row for row in _package_rows() if protocol in (None, row.protocol))


def citation(source: str) -> str:
    """Return the BibTeX entry of a source such as `arXiv:2204.03458`, ending in a newline.

    Raises:
        InputError: no published row has this source.
    """
    known = _package_entries()
    if source not in known:
        raise InputError(f"no published row has the source {source!r}; choose one of {', '.join(sorted(known))}")
    return known[source]


@functools.cache
def bibtex_entries() -> Mapping[str, str]:
    """Return the BibTeX entries of the papers that define metrics, by source such as `arXiv:1812.01717`."""
    return parse_entries(_read(METRICS_BIB_FILE), METRICS_BIB_FILE)


@functools.cache
def paper(source: str) -> Paper:
    """Return the paper of a source such as `arXiv:2204.03458`, from its BibTeX entry.

    Raises:
        InputError: no published row has that source.

    Example:
        >>> paper("arXiv:2212.05199").short_title, paper("arXiv:2212.05199").year
        ('MAGVIT', 2022)
    """
    fields = dict(re.findall(r"^ *(\w+) = \{(.*)\},?$", citation(source), re.MULTILINE))
    first, *others = fields["author"].split(" and ")
    return Paper(
        source=source,
        title=fields["title"].translate({ord(brace): None for brace in "{}"}),
        authors=f"{first.partition(',')[0]}{' et al.' if others else ''}",
        year=int(fields["year"]),
        url=fields["url"],
        code=fields.get("code", ""),
    )


@functools.cache
def _package_rows() -> tuple[PublishedRow, ...]:
    rows = parse_rows(_read(CSV_FILE), CSV_FILE)
    for row in rows:
        citation(row.source)
    return rows


@functools.cache
def _package_entries() -> Mapping[str, str]:
    return parse_entries(_read(BIB_FILE), BIB_FILE)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath("published_data", name).read_text("utf-8")


def parse_rows(text: str, file: str) -> tuple[PublishedRow, ...]:
    """Read and check the rows of a CSV file.

    Raises:
        InputError: the columns differ, a field is invalid (the message names file, line and column), a row
            appears twice, or two rows disagree about the direction of a metric.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = list(_CsvRow.model_fields)
    if reader.fieldnames != columns:
        raise InputError(f"{file}, line 1: the columns must be {','.join(columns)}")
    rows: list[PublishedRow] = []
    seen: dict[tuple[str, ...], int] = {}
    directions: dict[str, bool] = {}
    try:
        for fields in reader:
            where = f"{file}, line {reader.line_num}"
            row = _parse_row(fields, where)
            key = (row.table, row.method, row.protocol, row.group, row.metric)
            if key in seen:
                raise InputError(f"{where}: method: {row.method!r} is already in line {seen[key]}")
            if directions.setdefault(row.metric, row.higher_is_better) != row.higher_is_better:
                raise InputError(f"{where}: higher_is_better: other rows of {row.metric} say the opposite")
            seen[key] = reader.line_num
            rows.append(row)
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.reader.line_num}: this is not valid CSV: {error}") from error
    return tuple(rows)


def _parse_row(fields: Mapping[str | None, str | None], where: str) -> PublishedRow:
    if None in fields or None in fields.values():
        raise InputError(f"{where}: the number of fields differs from the number of columns")
    try:
        return _CsvRow.model_validate(fields).published()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        raise InputError(f"{where}: {field}: {fields[field]!r} is not allowed here ({first['msg']})") from error


def parse_entries(text: str, file: str) -> dict[str, str]:
    """Read a BibTeX file of arXiv papers; return its entries by source.

    Raises:
        InputError: an entry has no eprint, or a paper appears twice.
    """
    entries: dict[str, str] = {}
    for entry in re.split(r"^(?=@)", text, flags=re.MULTILINE)[1:]:
        eprint = re.search(r"^ *eprint = \{(\d{4}\.\d{4,5})\}", entry, re.MULTILINE)
        if eprint is None:
            raise InputError(f"{file}: {entry.splitlines()[0]!r} has no arXiv eprint")
        source = f"arXiv:{eprint[1]}"
        if source in entries:
            raise InputError(f"{file}: {source} appears twice")
        entries[source] = f"{entry.rstrip()}\n"
    return entries
