"""The command line: JSON and nothing else on stdout, defaults from the environment, completion, and its page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.shell_completion import ShellComplete
from conftest import POSITIONS, random_texts

from neurolens.cli import cli
from neurolens.cli import run as neurolens
from neurolens.options import PREFIX, plain, variables
from neurolens.run import Run, open_run

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
OPTIONS = [
    pytest.param(name, option, id=f"{name} {option.opts[-1]}")
    for name, command in cli.commands.items()
    for option in command.params
    if isinstance(option, click.Option)
]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text.jsonl and an analysed run of it, run.zarr."""
    folder = tmp_path_factory.mktemp("cli")
    texts = [json.dumps({"text": text}) for text in random_texts(12)]
    (folder / "text.jsonl").write_text("\n".join(texts), encoding="utf-8")
    command = ["collect", str(tiny_model), str(folder / "text.jsonl"), "-o", str(folder / "run.zarr")]
    assert neurolens(command) == 0 and neurolens(["analyze", str(folder / "run.zarr")]) == 0
    return folder


@pytest.fixture
def run(folder: Path) -> Run:
    return open_run(folder / "run.zarr")


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command that must succeed with a JSON object, and nothing else, on stdout; returns the object."""

    def asking(*arguments: object) -> Any:
        capsys.readouterr()
        code = neurolens([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 0, err

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return json.loads(out, parse_constant=refuse)

    return asking


# -- JSON ----------------------------------------------------------------------------------------------------------


def test_every_command_with_results_has_json() -> None:
    without = {name for name, command in cli.commands.items() if "as_json" not in {p.name for p in command.params}}
    assert without == {"completion"}


def test_json_of_collect_analyze_and_info(
    tiny_model: Path, folder: Path, tmp_path: Path, ask: Callable[..., Any]
) -> None:
    path = tmp_path / "r.zarr"
    command = ["collect", tiny_model, folder / "text.jsonl", "-o", path, "--json"]
    plan = ask(*command, "--dry-run")
    assert not path.exists()
    collected = ask(*command)
    assert collected == ask("info", path, "--json") and not collected["analyzed"]
    store = open_run(path).store
    wanted = {
        "layers": store.layers, "neurons_per_layer": store.neurons, "tokens": store.n_tokens,
        "sequences": store.shape[0], "positions": POSITIONS, "blocks": len(store.blocks),
    }  # fmt: skip
    assert {name: plan[name] for name in wanted} == wanted
    assert plan["block_tokens"] == collected["block_tokens"] and plan["raw_bytes"] == collected["raw_bytes"]
    assert plan["batch_tokens"] == store.attrs["batch_sequences"] * POSITIONS and plan["memory_bytes"] > 0
    analysed = ask("analyze", path, "--json")
    assert analysed == ask("analyze", path, "--json") == ask("info", path, "--json") and analysed["analyzed"]


def test_json_of_plot(folder: Path, tmp_path: Path, ask: Callable[..., Any]) -> None:
    from neurolens.plots import FIGURES

    listed = ask("plot", "--list", "--json")["figures"]
    assert [(figure["name"], figure["title"]) for figure in listed] == [(n, f.title) for n, f in FIGURES.items()]
    done = ask("plot", folder / "run.zarr", "-o", tmp_path, "--figure", "dead", "--json")
    assert done == {"written": [str(tmp_path / "dead.png"), str(tmp_path / "dead.svg")], "left_out": {}}
    assert all(Path(path).is_file() for path in done["written"])


def test_figures_a_run_is_not_analysed_for_are_left_out_and_named_ones_refused(
    folder: Path, tmp_path: Path, ask: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(folder / "run.zarr", tmp_path / "run.zarr")
    ask("analyze", path, "--only", "ngrams", "--ngrams", "1", "--min-rate", "90", "--json")
    done = ask("plot", path, "-o", tmp_path / "figures", "--format", "svg", "--json")
    left_out = {"covering-bigrams", "covering-trigrams", "detectors-trigrams", "covered-trigrams", "new-trigrams"}
    assert set(done["left_out"]) == left_out | {"examples", "suppression"} and len(done["written"]) == 12
    assert done["left_out"]["examples"] == "run is not analysed for updates"
    assert neurolens(["plot", str(path), "-o", str(tmp_path), "--figure", "dead", "--figure", "covering-trigrams"]) == 1
    assert "cannot draw covering-trigrams: run is analysed for n-grams of up to 1" in capsys.readouterr().err
    assert not (tmp_path / "dead.png").exists()


def test_json_of_demo(folder: Path, tmp_path: Path, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def demonstrate(output: Path, *, say: Callable[[str], object]) -> list[str]:
        say("a line beside the data")
        shutil.copytree(folder / "run.zarr", output / "demo.zarr")
        return ["a line of data"]

    monkeypatch.setattr("neurolens.demo.demonstrate.demonstrate", demonstrate)
    facts = ask("demo", "-o", tmp_path, "--json")
    assert facts == ask("info", tmp_path / "demo.zarr", "--json")


def test_json_of_export(folder: Path, run: Run, tmp_path: Path, ask: Callable[..., Any]) -> None:
    done = ask("export", folder / "run.zarr", tmp_path / "n.parquet", "--layers", "0,2", "--json")
    read = pq.read_table(tmp_path / "n.parquet")
    assert done == {
        "path": str(tmp_path / "n.parquet"), "table": "neurons", "columns": read.column_names, "rows": 2 * 72,
    }  # fmt: skip
    assert read.column_names == ["layer", "neuron", *run.neurons]
    np.testing.assert_array_equal(read["frequency"].to_numpy(), run.neurons["frequency"][[0, 2]].ravel())


def test_a_failure_prints_no_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("info", "analyze", "plot"):
        assert neurolens([name, str(tmp_path / "absent.zarr"), "--json"]) == 1
        assert capsys.readouterr().out == ""


def test_plain_is_what_json_has() -> None:
    nan, inf = float("nan"), float("inf")
    value = {
        "a": np.array([[1.5, nan]]), "b": (np.int64(3), np.float32(inf), np.bool_(True)), 4: Path("x/y"),
        "c": [-inf, None],
    }  # fmt: skip
    assert plain(value) == {"a": [[1.5, None]], "b": [3, None, True], "4": "x/y", "c": [None, None]}
    assert json.dumps(plain(value), allow_nan=False)


def test_a_layer_without_an_alive_neuron_is_null(
    folder: Path, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurolens.facts.mean_frequency_of_alive", lambda frequency, dead: np.array([0.5, np.nan, 0.5]))
    assert ask("info", folder / "run.zarr", "--json")["mean_frequency_of_alive"] == [0.5, None, 0.5]


# -- export --------------------------------------------------------------------------------------------------------


def test_export_prints_the_path(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neurolens(["export", str(folder / "run.zarr"), str(tmp_path / "n.csv")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'n.csv'}\n" and "216 neurons, 40 columns" in err


def test_triggers_have_their_text(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    from neurolens.checkpoint import Checkpoint

    assert neurolens(["export", str(folder / "run.zarr"), str(tmp_path / "t.parquet"), "--table", "triggers"]) == 0
    read = pq.read_table(tmp_path / "t.parquet")
    decode = Checkpoint(tiny_model).tokenizer().decode
    grams = zip(*(read[name].to_pylist() for name in ("token_minus_2", "token_minus_1", "token")), strict=True)
    assert read.num_rows > 0
    assert read["text"].to_pylist() == [decode([token for token in gram if token >= 0]) for gram in grams]


@pytest.mark.parametrize(
    ("code", "arguments", "expected"),
    [
        (1, ["absent.zarr", "t.csv"], "no run at"),
        (2, ["run.zarr", "t.xlsx"], "expected .parquet or .csv"),
        (2, ["run.zarr", "absent/t.csv"], "no folder"),
        (2, ["run.zarr", "t.csv", "--layers", "7"], "no layer 7; it has 0, 1, 2"),
        (2, ["run.zarr", "t.csv", "--table", "contexts"], "contexts"),
        (2, ["run.zarr", "text.jsonl/t.csv"], "no folder"),
    ],
)
def test_exports_that_fail(
    code: int,
    arguments: list[str],
    expected: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    assert neurolens(["export", *arguments]) == code
    out, err = capsys.readouterr()
    last = err.strip().splitlines()[-1]
    assert out == "" and expected in last and last.startswith(("neurolens: ", "Error: ")) and "Traceback" not in err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_run_that_is_not_analysed_is_not_exported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "run.zarr", tmp_path / "r.zarr")
    shutil.rmtree(tmp_path / "r.zarr" / "results")
    assert neurolens(["export", str(tmp_path / "r.zarr"), str(tmp_path / "t.csv")]) == 1
    assert "not analysed for dead; run 'neurolens analyze" in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()


# -- the environment -----------------------------------------------------------------------------------------------


def sample(option: click.Option) -> tuple[str, list[str]]:
    """(a value for the variable, the same on the command line), other than the default."""
    flag = option.opts[-1]
    if option.is_flag:
        return "1", [flag]
    if isinstance(option.type, click.Choice):
        value = str(option.type.choices[-1])
        return value, [flag, value]
    values = {"count": "5k", "layers": "0,2-3", "integer": "7", "integer range": "7", "float": "0.25", "size": "2GiB"}
    values |= {"i/n": "2/4"}
    if option.type.name == "label=share":
        return "wiki=2;Wikipedia (en)=1", [flag, "wiki=2", flag, "Wikipedia (en)=1"]
    if option.type.name == "factor=values":
        return "step=1,2;stage=base, tuned", [flag, "step=1,2", flag, "stage=base, tuned"]
    value = values.get(option.type.name, "some")
    return value, [flag, value]


def parsed(name: str, *arguments: str) -> dict[str, Any]:
    """Values of a command's parameters, with something for those that it cannot do without."""
    command, words = cli.commands[name], list(arguments)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            value = {"layer.neuron": "1.2"}.get(parameter.type.name, "x")
            words.append(str(parameter.type.choices[0]) if isinstance(parameter.type, click.Choice) else value)
        elif parameter.required and parameter.opts[-1] not in arguments:
            words += [parameter.opts[-1], "out"]
    return command.make_context(name, words, parent=click.Context(cli)).params


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_a_variable_is_as_good_as_an_option(name: str, option: click.Option, monkeypatch: pytest.MonkeyPatch) -> None:
    value, arguments = sample(option)
    wanted = parsed(name, *arguments)
    if not option.required:
        assert wanted != parsed(name)
    for variable in variables(name, option):
        with monkeypatch.context() as environment:
            environment.setenv(variable, value)
            if option.required:
                environment.setattr(option, "required", False)  # or `parsed` would give it
            assert parsed(name) == wanted
        with monkeypatch.context() as environment:
            environment.setenv(variable, "")
            assert option.required or parsed(name) != wanted, "an empty variable is none"


def test_command_line_then_command_then_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROLENS_DTYPE", "bf16")
    assert parsed("collect")["dtype"] == "bf16"
    monkeypatch.setenv("NEUROLENS_COLLECT_DTYPE", "fp16")
    assert parsed("collect")["dtype"] == "fp16"
    assert parsed("collect", "--dtype", "fp32")["dtype"] == "fp32"


def test_no_two_options_share_a_variable_by_accident() -> None:
    owner: dict[str, set[tuple[str, str]]] = {}
    for parameter in OPTIONS:
        name, option = parameter.values
        assert isinstance(name, str) and isinstance(option, click.Option)
        for variable in variables(name, option):
            owner.setdefault(variable, set()).add((name, max(option.opts, key=len)))
    for variable, options in owner.items():
        assert len({flag for _, flag in options}) == 1 and len({name for name, _ in options}) == len(options), variable


@pytest.mark.parametrize("flag", ["--output", "--run", "--force", "--json", "--dry-run", "--list"])
def test_paths_and_switches_are_a_commands_own(flag: str) -> None:
    found = [(p.values[0], p.values[1]) for p in OPTIONS if flag in p.values[1].opts]  # type: ignore[union-attr]
    assert found
    for name, option in found:
        own = f"NEUROLENS_{name.upper()}_{flag[2:].upper().replace('-', '_')}"  # type: ignore[union-attr]
        assert variables(name, option) == [own]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("NEUROLENS_DTYPE", "int3", "'int3'"),
        ("NEUROLENS_COLLECT_DTYPE", "int3", "'int3'"),
        ("NEUROLENS_LAYERS", "a-b", "'a-b' is no layer"),
        ("NEUROLENS_TOKENS", "many", "expected for example"),
        ("NEUROLENS_SHARE", "wiki", "LABEL=NUMBER"),
        ("NEUROLENS_COLLECT_DRY_RUN", "perhaps", "perhaps"),
        ("NEUROLENS_SEQ_LEN", "4096", "the model has 48 positions"),
        ("NEUROLENS_DEVICE", "nope\x1b", "cannot use device"),
        ("NEUROLENS_COLLECT_LAYERS", "7", "layers 0 to 2"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(
    variable: str,
    value: str,
    expected: str,
    tiny_model: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    assert neurolens(["collect", str(tiny_model), str(folder / "text.jsonl"), "-o", str(tmp_path / "r.zarr")]) == 2
    out, err = capsys.readouterr()
    last = err.strip().splitlines()[-1]
    assert out == "" and expected in last and variable in last and "\x1b" not in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_value_on_the_command_line_is_not(
    tiny_model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROLENS_DTYPE", "int3")
    monkeypatch.setenv("NEUROLENS_DEVICE", "nope")
    command = ["collect", str(tiny_model), str(folder / "text.jsonl"), "-o", str(tmp_path / "r.zarr")]
    assert neurolens([*command, "--dtype", "int4"]) == 2
    assert "int4" in (err := capsys.readouterr().err) and "NEUROLENS_" not in err
    assert neurolens([*command, "--dtype", "fp32", "--device", "other"]) == 2
    assert "NEUROLENS_" not in capsys.readouterr().err


def test_a_variable_that_nobody_reads_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROLENS_DTPYE", "bf16")
    assert neurolens(["info", str(folder / "run.zarr")]) == 0
    assert capsys.readouterr().err == "neurolens: no option reads NEUROLENS_DTPYE of the environment\n"


def test_help_names_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in cli.commands.items():
        assert neurolens([name, "--help"]) == 0
        assert (f"NEUROLENS_{name.upper()}_" in capsys.readouterr().out) == any(
            isinstance(parameter, click.Option) for parameter in command.params
        )


# -- completion ----------------------------------------------------------------------------------------------------

complete = ShellComplete(cli, {}, "neurolens", "_NEUROLENS_COMPLETE")


def completed(*words: str) -> list[str]:
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


def test_commands_options_and_choices_are_completed() -> None:
    assert sorted(completed("")) == sorted(cli.commands)
    assert completed("col") == ["collect"]
    for name, command in cli.commands.items():
        flags = {flag for option in command.params for flag in option.opts if flag.startswith("--")}
        assert set(completed(name, "--")) == flags | {"--help"}
    assert completed("collect", "--dtype", "b") == ["bf16"]
    assert completed("completion", "") == ["bash", "zsh", "fish"]
    (item,) = complete.get_completions(["info"], "some")
    assert item.type == "file"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_valid(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert neurolens(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_NEUROLENS_COMPLETE={shell}_complete" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script as bash runs it, down to the words it would offer."""
    bash = shutil.which("bash")
    version = subprocess.run([bash or "true", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.(\d+)", version)
    if not bash or not found or (int(found[1]), int(found[2])) < (4, 4):
        pytest.skip("no bash 4.4 or newer")
    assert neurolens(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "neurolens").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m neurolens.cli "$@"\n')
    (tmp_path / "neurolens").chmod(0o755)
    code = (
        "source script; COMP_WORDS=(neurolens analyze --m); COMP_CWORD=2; _neurolens_completion neurolens;"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(PAGE.parents[1]),
        "NEUROLENS_DTPYE": "", "NEUROLENS_DTYPE": "wrong",  # neither may say a word into a line that is being typed
    }  # fmt: skip
    command = [bash, "--norc", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    offered = [
        "--max-covering",
        "--max-covering-ngrams",
        "--min-rate",
        "--min-occurrences",
        "--min-position-mi",
        "--model",
    ]
    assert done.stdout.split() == offered, done.stderr
    assert done.stderr == ""


# -- the page ------------------------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """Text below each heading `## neurolens COMMAND …`, heading included."""
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {part.split()[1]: part for part in parts if part.startswith("neurolens ")}


def rows(section: str) -> Iterator[list[str]]:
    for line in section.splitlines():
        if line.startswith("| `-"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_page_has_every_command_and_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert set(sections()) == set(cli.commands)
    assert set(re.findall(r"(?:^|`|\$\()neurolens ([a-z]+)", text, flags=re.MULTILINE)) <= set(cli.commands)
    assert set(re.findall(r"NEUROLENS_\w+", text)) <= {
        variable for p in OPTIONS for variable in variables(p.values[0], p.values[1])  # type: ignore[arg-type]
    }  # fmt: skip


@pytest.mark.parametrize("name", cli.commands)
def test_page_has_every_argument_option_choice_and_default(name: str) -> None:
    section = sections()[name]
    for argument in cli.commands[name].params:
        if isinstance(argument, click.Argument):
            assert (argument.name or "").upper() in section.splitlines()[0]
    options = {
        ", ".join(option.opts): option for option in cli.commands[name].params if isinstance(option, click.Option)
    }
    found = {", ".join(re.findall(r"`(-[^`]+)`", cells[0])): cells for cells in rows(section)}
    assert set(found) == set(options)
    for flags, option in options.items():
        what, default, text = found[flags]
        assert text
        for choice in option.type.choices if isinstance(option.type, click.Choice) else ():
            assert str(choice) in what
        if option.required:
            assert default == "required"
        elif option.show_default:
            shown = option.default if isinstance(option.default, tuple) else (option.default,)
            assert default == ", ".join(map(str, shown))
        elif given := re.search(r"\[(.+)\]$", option.help or ""):
            assert default.replace("`", "") == given[1]
        else:
            assert default == ""


def test_page_has_the_exit_codes() -> None:
    from neurolens import IncompleteError, NeurolensError, UsageError

    table = dict(re.findall(r"^\| (\d+) \| (\w+)", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(table) == {"0", "1", "2", "3", "130"}
    for error, word in ((NeurolensError, "failed"), (UsageError, "usage"), (IncompleteError, "incomplete")):
        assert table[str(error.exit_code)] == word
