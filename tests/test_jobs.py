"""Jobs: a TOML file says what a study is; what it cannot mean is named, with the run and the nearest known key."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click
import pytest

from neurolens import UsageError, cli
from neurolens.analyze import analyze_run
from neurolens.collect import collect
from neurolens.data import DataSpec
from neurolens.jobs import ANALYZE, COLLECT, FACTORS, KEYS, TEXT, read_job
from neurolens.sources import HubSource, find_sources
from neurolens.testing import OPT_SHAPES

RUN = '[[run]]\nmodel = "facebook/opt-125m"\ndata = "text.jsonl"\n'


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """Write a job, and read it."""

    def read(text: str) -> Any:
        (tmp_path / "job.toml").write_text(text)
        return read_job(tmp_path / "job.toml")

    return read


def test_a_job(job: Any, tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    found = job(
        """
        [study]
        factors = ["optimizer"]
        [defaults]
        data = ["text.jsonl", "hf:allenai/c4:en", "demo:", "/there/*.txt"]
        tokens = "5M"
        layers = "0,2-4"
        memory = "20GiB"
        share = { wiki = 2 }
        stage = "base"
        analyze = { only = ["dead", "ngrams"], ngrams = 4, fold_norm = true }
        [[run]]
        model = "facebook/opt-125m"
        size = "125m"
        optimizer = 3
        [[run]]
        model = "local"
        name = "ours"
        tokens = 1000
        stage = "sft"
        shards = 4
        spool = "disk"
        analyze = { min_position_mi = 0.1, ngrams = 2 }
        [cluster]
        kind = "local"
        """
    )
    first, second = found.runs
    assert found.name == "job" and found.cluster == {"kind": "local"}
    assert (first.name, first.output, first.model) == ("opt-125m", "opt-125m.zarr", "facebook/opt-125m")
    assert first.text["paths"] == (str(tmp_path / "text.jsonl"), "hf:allenai/c4:en", "demo:", "/there/*.txt")
    assert first.text["tokens"] == 5_000_000 and first.text["shares"] == {"wiki": 2.0}
    assert first.collect == {"layers": [0, 2, 3, 4], "memory": 20 << 30}
    assert first.analyze == {"only": ["dead", "ngrams"], "ngrams": 4, "fold_norm": True}
    assert first.factors == {"size": "125m", "stage": "base", "optimizer": 3} and first.shards == 1
    assert (second.name, second.model, second.shards) == ("ours", str(tmp_path / "local"), 4)
    assert second.text["tokens"] == 1000 and second.factors == {"stage": "sft"}
    assert second.collect["spool"] == str(tmp_path / "disk")
    assert second.analyze == {"only": ["dead", "ngrams"], "ngrams": 2, "fold_norm": True, "min_position_mi": 0.1}


def test_the_digest_tells_what_decides_the_run(job: Any) -> None:
    def digest(more: str) -> str:
        return job(RUN + more).runs[0].digest()

    plain = digest("")
    assert {digest(more) for more in ('size = "1b"', 'memory = "1GB"', "shards = 2", 'name = "x"')} == {plain}
    others = [digest(more) for more in ("tokens = 5", 'dtype = "bf16"', "threads = 1", "analyze = { ngrams = 2 }")]
    assert len({plain, *others}) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no [[run]]"),
        ("run = 3", "no [[run]]"),
        ("[[run]]\n", "[[run]] 1 has no model"),
        ('[[run]]\nmodel = "a"\n', "[[run]] 1 has no data"),
        (RUN + "token = 3\n", "[[run]] 1 has an unknown key 'token'; did you mean 'tokens'?"),
        (RUN + "seqlen = 3\n", "did you mean 'seq_len'?"),
        (RUN + "xyzzy = 3\n", "unknown key 'xyzzy'; expected model, "),
        ("[default]\n" + RUN, "the job has an unknown key 'default'; did you mean 'defaults'?"),
        ("[defaults]\ndtyp = 1\n" + RUN, "[defaults] has an unknown key 'dtyp'; did you mean 'dtype'?"),
        ("[study]\nfactor = []\n" + RUN, "did you mean 'factors'?"),
        ('[study]\nfactors = ["model"]\n' + RUN, "'model' is an option"),
        ('[study]\nfactors = "optimizer"\n' + RUN, "no list of names"),
        (RUN + "analyze = { ngram = 3 }\n", "[[run]] 1 analyze has an unknown key 'ngram'; did you mean 'ngrams'?"),
        (RUN + "analyze = 3\n", "analyze is no table"),
        (RUN + 'tokens = "many"\n', "[[run]] 1 tokens: 'many' is no number of tokens"),
        (RUN + "tokens = true\n", "[[run]] 1 tokens: True"),
        (RUN + 'dtype = "fp64"\n', "[[run]] 1 dtype: "),
        (RUN + 'memory = "lots"\n', "[[run]] 1 memory: 'lots' is no size"),
        (RUN + 'layers = "x"\n', "[[run]] 1 layers: 'x' is no layer"),
        (RUN + "seq_len = 1\n", "[[run]] 1 seq_len: 1 is less than 2"),
        (RUN + "shards = 0\n", "[[run]] 1 shards: 0 is less than 1"),
        (RUN + "threads = 1.5\n", "[[run]] 1 threads: 1.5 is not a whole number"),
        (RUN + "size = [1]\n", "[[run]] 1 size: [1] is no factor"),
        (RUN + "share = 3\n", "[[run]] 1 share: 3 is no table"),
        (RUN.replace('"text.jsonl"', "[]"), "[[run]] 1 data: []"),
        (RUN + 'name = "../x"\n', "'../x' is no name of a run"),
        (RUN + 'name = ".x"\n', "'.x' is no name of a run"),
        (RUN + RUN, "[[run]] 1 and 2 have one output, opt-125m.zarr"),
        (RUN + RUN + 'name = "OPT-125m"\n', "[[run]] 1 and 2 have one output"),
        ("cluster = 3\n" + RUN, "cluster is no table"),
        ("[[run]\n", "is no TOML"),
        ("a = " + "[" * 5000, "is no TOML"),
    ],
)
def test_what_is_wrong_is_named(job: Any, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        job(text)
    assert said in str(error.value) and str(error.value).startswith(str(tmp_path / "job.toml"))
    assert "\n" not in str(error.value)


def test_files_that_are_no_jobs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_job(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="no TOML"):
        read_job(tmp_path / "bytes.toml")


def test_the_jobs_of_the_project_are_jobs() -> None:
    """The paper's models by size, in order; the demo's states by step, which are here."""
    folder = Path(__file__).parents[1] / "studies"
    family, demo = (read_job(folder / f"{name}.toml") for name in ("opt-family", "demo-checkpoints"))
    assert [run.factors["size"] for run in family.runs] == list(OPT_SHAPES)
    assert all(isinstance(find_sources([each])[0], HubSource) for run in family.runs for each in run.text["paths"])
    assert [run.factors["step"] for run in demo.runs] == [0, 250, 500, 750]
    assert all(Path(run.model, "config.json").exists() for run in demo.runs)


def test_keys_are_the_options_of_the_command_line() -> None:
    """And reach what they are called after."""

    def options(command: str) -> set[str]:
        named = [option for option in cli.cli.commands[command].params if isinstance(option, click.Option)]
        return {max(option.opts, key=len).lstrip("-").replace("-", "_") for option in named}

    not_of_a_run = {"output", "dry_run", "json", "shard"}
    assert options("collect") - not_of_a_run == {*TEXT, *COLLECT, "share"}
    assert options("analyze") - {"json", "model", "device"} == set(ANALYZE)
    assert set(COLLECT) <= set(inspect.signature(collect).parameters)
    assert set(TEXT) <= set(inspect.signature(DataSpec).parameters)
    assert {"only", "lengths", "rules", "positions", "every", "fold_norm"} <= set(
        inspect.signature(analyze_run).parameters
    )
    assert set(FACTORS).isdisjoint(KEYS)
