"""Settings of strangers: what a study may be called, what its values may do to paths and shells, and odd YAML."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from oba.dag import STAGES
from oba.errors import ConfigError, FileError
from oba.layout import Coordinates, require_job
from oba.models.names import check_name
from oba.plain import MOST_VALUES, check_size, parse_yaml
from oba.study import load_study, parse_study

SHELL = [
    "a b",
    "a'b",
    'a"b',
    "$(touch owned)",
    "`touch owned`",
    "a;b",
    "a|b",
    "a&b",
    "a>b",
    "a*",
    "~",
    "--help",
    "-x",
    "a\nb",
]
PATHS = ["../x", "..", ".", ".hidden", "/etc", "a/b", "a\\b", "", "x\x00", "{seed}", "é"]


@pytest.mark.parametrize("name", [*SHELL, *PATHS])
def test_no_name_reaches_a_shell_or_leaves_its_folder(study_values, name):
    for values in ({"experiment": name}, {"methods": [{"name": name, "criterion": "oba"}]}, {"models": [name]}):
        with pytest.raises(ConfigError, match=r"^study: (experiment|methods\.0\.name|models|models\.0\.name): "):
            parse_study(study_values | values, "study")


@pytest.mark.parametrize("name", ["mlflow.db", "mlflow.db-wal", "mlartifacts", "MLartifacts", "mlruns", "README.md"])
def test_an_experiment_is_not_called_what_else_lies_beside_it(study_values, name):
    message = f"study: experiment: got {name!r}, but results/ keeps something else under this name; allowed: any but "
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_study(study_values | {"experiment": name}, "study")
    assert parse_study(study_values | {"experiment": f"my-{name}"}, "study")


def test_names_fit_into_a_file_system(study_values):
    longest = "x" * 100
    methods = [{"name": longest, "criterion": "oba"}]
    assert parse_study(study_values | {"experiment": longest, "methods": methods}, "study")
    for values, key in (
        ({"experiment": longest + "x"}, "experiment"),
        ({"methods": [{"name": longest + "x", "criterion": "oba"}]}, "methods.0.name"),
        ({"models": ["resnet8x1." + "0" * 100]}, "models.0.name"),
    ):
        with pytest.raises(
            ConfigError, match=rf"^study: {key}: got '\w+.*; String should have at most 100 characters$"
        ):
            parse_study(study_values | values, "study")


@pytest.mark.parametrize("name", ["resnet\uff18", "resnet8x\u0663", "resnet" + "9" * 50, "resnet8x1." + "0" * 7])
def test_names_of_nets_are_short_plain_digits(name):
    with pytest.raises(ConfigError, match="unknown model"):
        check_name(name, "models")


@pytest.mark.parametrize("seed", [2**63, 2**64])
def test_seeds_are_those_that_generators_take(study_values, seed):
    with pytest.raises(ConfigError, match=rf"^study: seeds\.0: got {seed}; allowed: less than {2**63}$"):
        parse_study(study_values | {"seeds": [seed]}, "study")


@pytest.mark.parametrize("path", ["net\n.pt", "net\x00.pt", "net\x1b[1m.pt"])
def test_paths_of_weights_can_be_printed(study_values, path):
    with pytest.raises(ConfigError, match=r"study: dense: from is .* with characters that cannot be printed"):
        parse_study(study_values | {"dense": {"from": path, "epochs": 1}}, "study")


def test_options_of_jobs_are_quoted_for_the_shell():
    at = Coordinates("$(touch owned)", 0, "a'b", "iterative", "0.60", "finetuned")
    options = STAGES["evaluate"].options(at)
    said = subprocess.run(f"printf '%s\\n' {options}", shell=True, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == shlex.split(options)
    assert said.splitlines()[1::2] == ["$(touch owned)", "0", "a'b", "iterative", "0.60", "finetuned"]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (Coordinates(model="../x"), "--model: got '../x'; allowed: resnet8"),
        (Coordinates(method="../x"), "--method: got '../x'; allowed: magnitude, dense-longer"),
        (Coordinates(schedule="x"), "--schedule: got 'x'; allowed: iterative, oneshot"),
        (Coordinates(keep="0.50"), "--keep: got '0.50'; allowed: 0.60, 0.30"),
        (Coordinates(variant="x"), "--variant: got 'x'; allowed: dense, finetuned, scratch"),
        (Coordinates(seed=-1), "--seed: got '-1'; allowed: 0 to 2**63 - 1"),
        (Coordinates(seed=2**64), f"--seed: got '{2**64}'; allowed: 0 to 2**63 - 1"),
    ],
)
def test_commands_are_given_jobs_of_the_study(study_values, at, message):
    study = parse_study(study_values, "study")
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        require_job(study, at)
    require_job(study, Coordinates("resnet8", 7, "dense-longer", "oneshot", "0.60", "scratch"))


def test_a_job_that_does_not_exist_is_one_line(study_values, tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study_values))
    command = [sys.executable, "-m", "oba", "dense", "--study", "study.yaml", "--model", "../x", "--seed", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "error: --model: got '../x'; allowed: resnet8\n")
    assert {path.name for path in tmp_path.iterdir()} == {"study.yaml"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "the key 'c' is given twice (line 4, column 3)"),
        ("a: [1", "expected ',' or ']', but got '<stream end>' (line 1, column 6)"),
        ("a: 2026-99-99", "a value cannot be read: month must be in 1..12"),
        ('a: !!int ""', "a value cannot be read: string index out of range"),
        ("a: !!bool maybe", "a value cannot be read: 'maybe'"),
        ("[" * 5000, "nested too deeply"),
        (
            "a: !!python/object/apply:os.system [id]",
            "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system' "
            "(line 1, column 4)",
        ),
    ],
)
def test_yaml_that_is_none_is_one_line(text, reason, tmp_path):
    with pytest.raises(ConfigError, match=f"^{re.escape(reason)}$"):
        parse_yaml(text)
    path = Path(tmp_path / "study.yaml")
    path.write_text(text)
    with pytest.raises(FileError, match=re.escape(f"study.yaml: not valid YAML ({reason})")):
        load_study(path)


def bomb(levels: int) -> str:
    """Return YAML of some hundred bytes that says ten to the power of ``levels`` values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"experiment: *a{levels - 1}\n"])


@pytest.mark.parametrize("text", [bomb(9), "experiment: &a {b: *a}", "experiment: &a [*a]"])
def test_aliases_do_not_grow_without_end(text):
    with pytest.raises(
        ConfigError, match=r"^study: more than 100,000 values, aliases followed; allowed: no aliases of"
    ):
        parse_study(parse_yaml(text), "study")


def test_as_many_values_as_any_study_needs_are_read():
    check_size([0] * (MOST_VALUES - 1))
    with pytest.raises(ConfigError, match="more than"):
        check_size([0] * MOST_VALUES)


def test_aliases_may_be_used(study_values):
    text = yaml.safe_dump(study_values) + "runtime: &r {device: cpu}\n"
    assert parse_study(parse_yaml(text), "study").runtime.device == "cpu"
    shared = parse_yaml("dense: &d {epochs: 3}\nfinetune: *d\n")
    study = parse_study(study_values | shared, "study")
    assert (study.dense.epochs, study.finetune.epochs) == (3, 3)
