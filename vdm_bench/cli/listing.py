"""`vdm-bench list`: the available protocols, metrics, networks, weights, datasets and samplers."""

from collections.abc import Callable

import click

from vdm_bench.cli.options import show, show_json

Row = dict[str, str]


@click.command("list", short_help="List protocols, metrics, networks, weights, datasets, samplers.")
@click.argument(
    "what", type=click.Choice(["protocols", "metrics", "networks", "weights", "datasets", "samplers"])
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_things(what: str, as_json: bool) -> None:
    """List protocols, metrics, networks, weights, datasets or samplers."""
    rows = _LISTS[what]()
    if as_json:
        show_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        show(f"{row['name']:<{width}}  {row['description']}")


def _protocols() -> list[Row]:
    from vdm_bench.protocols import get_protocol, protocol_names

    found = [get_protocol(name) for name in protocol_names()]
    return [
        {
            "name": protocol.name,
            "description": f"{protocol.title}; {protocol.generated_count} v {protocol.reference_count} clips",
            "digest": protocol.digest,
        }
        for protocol in found
    ]


def _metrics() -> list[Row]:
    from vdm_bench.metrics.recipes import recipes

    return [
        {
            "name": name,
            "description": f"{recipe.title}; {'higher' if recipe.higher_is_better else 'lower'} is better",
        }
        for name, recipe in recipes().items()
    ]


def _networks() -> list[Row]:
    from vdm_bench.metrics.networks import PACKAGED, load_network, network_names
    from vdm_bench.metrics.weights import catalogue

    known = catalogue()
    rows = []
    for name in network_names():
        if name in known:  # not loaded: that may download
            rows.append({"name": name, "description": f"{known[name].title}; `vdm-bench weights list` says more"})
            continue
        if name in PACKAGED:
            rows.append({"name": name, "description": PACKAGED[name]})
            continue
        spec = load_network(name).spec
        layers = ", ".join(f"{layer} [{d}]" for layer, d in spec.layers.items())
        text = f"{spec.identity}, layers {layers}, input {spec.preprocessing}, from {spec.min_frames} frames"
        rows.append({"name": name, "description": "; ".join(filter(None, (text, spec.note)))})
    return rows


def _weights() -> list[Row]:
    from vdm_bench.metrics.weights import catalogue

    return [
        {"name": name, "description": f"{entry.title}; {entry.licence}"} for name, entry in catalogue().items()
    ]


def _datasets() -> list[Row]:
    from vdm_bench.datasets.registry import dataset_entry, dataset_names

    rows = []
    for name in dataset_names():
        entry = dataset_entry(name)
        classes = f", {entry.classes} classes" if entry.classes else ""
        data = f"; below --data-root: {entry.layout}" if entry.needs_data else "; needs no data"
        rows.append({"name": name, "description": entry.title + classes + data})
    return rows


def _samplers() -> list[Row]:
    from vdm_bench.samplers import describe_samplers

    ways = {
        "module:object": "a Python function or class of your own: f(request, **options) -> uint8 [N, T, H, W, 3]",
        "--sampler-command CMD": "a program in another environment; `vdm-bench sampler-client` prints a client",
        "--clips PATH": "existing clips, instead of a sampler",
    }
    return [{"name": name, "description": text} for name, text in (describe_samplers() | ways).items()]


_LISTS: dict[str, Callable[[], list[Row]]] = {
    "protocols": _protocols,
    "metrics": _metrics,
    "networks": _networks,
    "weights": _weights,
    "datasets": _datasets,
    "samplers": _samplers,
}
