"""`vdm-bench sampler-client`: the client of samplers in other environments."""

import click

from vdm_bench.cli.options import show_text


@click.command("sampler-client", short_help="Print the Python client of --sampler-command.")
def sampler_client() -> None:
    """Print client.py, which connects a sampler in another environment to `run --sampler-command`.

    It needs Python's standard library alone. Put it next to the sampler; its first lines show how to use it.

    \b
    vdm-bench sampler-client > client.py
    vdm-bench run shapes-unconditional --sampler-command "other/bin/python sampler.py"
    """
    from importlib import resources

    show_text(resources.files("vdm_bench.samplers").joinpath("client.py").read_text("utf-8"))
