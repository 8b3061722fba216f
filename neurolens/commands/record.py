"""record: the commands that make runs, and those that say whether they are right: collect, merge, certify, verify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from neurolens import UsageError
from neurolens.commands import RUN, command, facts, say, tell
from neurolens.options import ByteSize, LayerList, ShardName, Share, TokenCount, emit, json_option

if TYPE_CHECKING:
    from neurolens.location import Where
    from neurolens.shards import Shard

# how collect and certify read DATA
text_key_option = click.option(
    "--text-key", default="text", show_default=True, help="Where a record has its text (dotted)."
)
seq_len_option = click.option(
    "--seq-len", type=click.IntRange(min=2), help="Tokens a sequence.  [the model's positions]"
)


@command()
@click.argument("model")
@click.argument("data", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=RUN, help="The run to make, or to continue: RUN.zarr.")
@click.option("--tokens", type=TokenCount(), help="How much text, e.g. 5M, in equal shares of each label.  [all]")
@click.option("--share", "shares", multiple=True, type=Share(), help="A label's share of --tokens, e.g. wiki=2.  [1]")
@text_key_option
@click.option("--label-key", help="Where it has its label (dotted).  [meta.pile_set_name, else by file]")
@seq_len_option
@click.option("--layers", type=LayerList(), help="Layers to record, e.g. 0,2-5.  [all]")
@click.option("--revision", help="Branch, tag or commit of a MODEL on the hub.  [main]")
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), help="[fp32 on a CPU, else as MODEL was saved]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--batch-tokens", type=TokenCount(), help="Tokens a forward pass.  [4096]")
@click.option("--block-tokens", type=TokenCount(), help="Tokens a block, the unit of commit.  [262144, or what fits]")
@click.option("--memory", type=ByteSize(), help="Memory that it may take, e.g. 20GiB.  [what is free, less a tenth]")
@click.option("--device-memory", type=ByteSize(), help="… of the GPU.  [what is free, less a tenth]")
@click.option(
    "--weights",
    type=click.Choice(["resident", "streamed"]),
    help="Keep the model in memory, or read each layer when it is due.  [what is faster and fits]",
)
@click.option(
    "--spool",
    metavar="DIR",
    help="Folder where hidden states wait between layers, or 'memory'.  [memory, or beside the run, as is faster]",
)
@click.option(
    "--keep-bitmaps",
    type=click.Choice(["all", "sparse", "none"]),
    help="Whose bits stay once counted: all, those active on at most 1%, none.  [all, if half the disk holds them]",
)
@click.option(
    "--shard", type=ShardName(), help="A part of the blocks only, e.g. 2/4; others may do theirs at once.  [all]"
)
@click.option("--dry-run", is_flag=True, help="Say what it would take, and stop.")
@json_option
def collect(
    model: str,
    data: tuple[str, ...],
    output: Where,
    tokens: int | None,
    shares: tuple[tuple[str, float], ...],
    text_key: str,
    label_key: str | None,
    seq_len: int | None,
    layers: list[int] | None,
    revision: str | None,
    dtype: str | None,
    device: str,
    batch_tokens: int | None,
    block_tokens: int | None,
    memory: int | None,
    device_memory: int | None,
    weights: str | None,
    spool: str | None,
    keep_bitmaps: str | None,
    shard: Shard | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run text through MODEL and record which neurons are active on which token.

    MODEL is a folder with a HF checkpoint (OPT), or a name on the hub such as facebook/opt-125m. DATA is any
    number of files, folders, globs and hf:NAME[:CONFIG][:SPLIT] (a data set of the hub, streamed). Files are .jsonl, a
    document a line, .txt, each a document, plain or compressed (.gz .xz .bz2 .zst), or .parquet, a document a row.
    The same command again continues a run that was stopped; with --shard several processes or machines share one. A
    model of any size runs: what does not fit into memory
    is read, and waits, on the disk; how is planned, and said beforehand. It changes no bit.
    """
    from neurolens.collect import DataSpec, collect
    from neurolens.plan import Plan
    from neurolens.shards import WHOLE

    spec = DataSpec(data, text_key, label_key, tokens, dict(shares), seq_len)
    result = collect(
        model,
        spec,
        output,
        revision=revision,
        layers=layers,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        block_tokens=block_tokens,
        weights=weights,
        spool=spool,
        keep_bitmaps=keep_bitmaps,
        memory=memory,
        device_memory=device_memory,
        shard=shard or WHOLE,
        dry_run=dry_run,
        say=say,
    )
    if isinstance(result, Plan):
        if as_json:
            emit(result.facts())
        return
    if result.progress().all():
        say(f"{output}: collected; next: neurolens analyze {output}")
    if as_json:
        emit(facts(output))


@command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option("-o", "--output", required=True, type=RUN, help="The run to make, or to continue: WHOLE.zarr.")
@json_option
def merge(runs: tuple[Where, ...], output: Where, as_json: bool) -> None:
    """Merge RUNS of one model into one: parts of one run, or runs of several texts, one text after another.

    Parts of a run give the run that was never divided, byte for byte. Several texts give the run of all of them; each
    must be complete. Bits are merged, and results are not taken over; where bits of a text were dropped, what was
    counted and adds is. RUNS are only read. The same command again continues a merge that was stopped.
    """
    from neurolens.merge import merge

    merge(runs, output, say=say)
    say(f"{output}: merged; next: neurolens analyze {output}")
    if as_json:
        emit(facts(output))


@command()
@click.argument("model")
@click.argument("data", nargs=-1)
@click.option("--run", type=RUN, help="Certify what this RUN.zarr has recorded, and store the certificate in it.")
@click.option("--tokens", type=TokenCount(), help="On how much text, e.g. 100k.  [16384]")
@text_key_option
@click.option("--label-key", help="Where it has its label (dotted).  [as collect]")
@seq_len_option
@click.option("--revision", help="Branch, tag or commit of a MODEL on the hub.  [the run's; main]")
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), help="What to certify.  [the run's; as collect]")
@click.option("--device", help="cpu, cuda, cuda:1, mps; with --run where the reference is computed.  [the run's; cpu]")
@click.option("--batch-tokens", type=TokenCount(), help="Tokens a forward pass.  [the run's; 4096]")
@json_option
def certify(
    model: str,
    data: tuple[str, ...],
    run: Where | None,
    tokens: int | None,
    text_key: str,
    label_key: str | None,
    seq_len: int | None,
    revision: str | None,
    dtype: str | None,
    device: str | None,
    batch_tokens: int | None,
    as_json: bool,
) -> None:
    """How many bits differ from those of plain Hugging Face in fp32, by layer, and how near to zero they were.

    With --run the bits that RUN.zarr has recorded are compared and the certificate is kept in it: info shows it.
    Without, DATA (as for collect, or one RUN.zarr, for its text) is read by MODEL in a --dtype, and nothing is kept.
    """
    from neurolens.certify import certify
    from neurolens.data import DataSpec

    if run is not None:
        if typed("text_key", "label_key", "seq_len"):
            raise UsageError("--run certifies a run's own text; leave --text-key, --label-key and --seq-len out")
        # the environment says how to record; this has been recorded
        dtype, device = dtype if typed("dtype") else None, device if typed("device") else None
        batch_tokens = batch_tokens if typed("batch_tokens") else None
    certificate = certify(
        model,
        DataSpec(data, text_key=text_key, label_key=label_key, seq_len=seq_len) if data else None,
        run=run,
        revision=revision,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        tokens=tokens,
        say=say,
    )
    if as_json:
        emit(certificate.to_dict())
    else:
        tell(certificate.lines())
    if run is not None:
        say(f"{run}: certified; 'neurolens info {run}' shows it from now on")


@command()
@click.argument("run", type=RUN)
@click.option("--model", help="Where the run's checkpoint is now; nothing is fetched.  [as the run says]")
@click.option("--spool", metavar="DIR", help="The folder that collect was given for hidden states.  [beside the run]")
@click.option("--mend", is_flag=True, help="Take back the marks of what is damaged and can be made again.")
@json_option
def verify(run: Where, model: str | None, spool: str | None, mend: bool, as_json: bool) -> None:
    """Read all of RUN: checksums, marks, fingerprints, and whether what follows from something else does.

    What is damaged is named, with the command that mends it. Without --mend nothing is written. Exit codes: 0 sound,
    also if incomplete, 1 damaged, 3 mended but for commands that must make anew what was taken back.
    """
    from neurolens.verify import verify_run

    found = verify_run(run, model, mend, say, spool=spool)
    if as_json:
        emit(found.to_dict())
    else:
        tell(found.lines())
    click.get_current_context().exit(found.exit_code)


def typed(*options: str) -> bool:
    """Whether one of these options stands on the command line, rather than in the environment or nowhere."""
    ctx = click.get_current_context()
    return any(ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE for option in options)
