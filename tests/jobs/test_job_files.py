"""Job files: their options, error messages that list every mistake, and command-line options that override them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from jobs.cli import app
from jobs.run_command import from_options
from pipeline.runtime.errors import UsageError
from pipeline.runtime.job_file import parse_job, read_bytes, read_job
from pipeline.runtime.options import RunOptions
from pipeline.storage import AccessError

JOBS = Path(__file__).parents[2] / "jobs"
NEEDED = "task: fill-mask\ninput: texts\noutput: filled\ncheckpoint: models/language\n"


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a job file, with the given text after the four lines that every job needs."""

    def write(text: str | bytes = "", needed: str = NEEDED) -> str:
        path = tmp_path / "job.yaml"
        path.write_bytes(needed.encode() + (text if isinstance(text, bytes) else text.encode()))
        return str(path)

    return write


def load_job(uri: str) -> RunOptions:
    """Return the run that a job file describes."""
    return parse_job(uri, read_bytes(uri))


def options_of(*arguments: str) -> RunOptions:
    """Return the options of a run with these arguments."""
    got: list[RunOptions] = []
    program = typer.Typer()
    program.command()(from_options(got.append))
    result = CliRunner().invoke(program, list(arguments))
    assert result.exit_code == 0, result.output
    return got[0]


def perceiver(*arguments: str) -> tuple[int, str]:
    """Return the exit code and everything printed, without the frames and line breaks of a terminal."""
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_job_file_of_the_project_runs_the_task_of_its_name(path: Path) -> None:
    options = load_job(str(path))
    assert options.task == path.stem
    assert options.input.startswith("s3://")
    assert options.output.startswith("s3://")
    for line in path.read_text().splitlines():
        assert not line or "#" in line, f"{line} has no comment"


def test_every_task_has_a_job_file() -> None:
    from pipeline.heads import HEADS

    assert {path.stem for path in JOBS.glob("*.yaml")} == set(HEADS)


def test_dashes_underscores_and_lists_are_equivalent(job: Callable[..., str]) -> None:
    with_dashes = load_job(job("batch-size: 8\nkeep-columns: [a, b]\npoints: [[10, 20], [30, 40]]\nframes: [0, 8]\n"))
    as_typed = load_job(job("batch_size: 8\nkeep_columns: a,b\npoints: 10,20 30,40\nframes: 0,8\n"))
    assert with_dashes == as_typed
    assert (as_typed.keep_columns, as_typed.points) == (("a", "b"), ((10, 20), (30, 40)))


def test_all_mistakes_in_a_file_are_listed_at_once(job: Callable[..., str]) -> None:
    path = job("replica: 2\nbatch-size: 4\nbatch_size: 8\ntop-k: none\ndtype: int8\ninput: other\n")
    with pytest.raises(UsageError) as caught:
        load_job(path)
    assert str(caught.value).splitlines() == [
        f"{path}:",
        "  replica is not a valid option (did you mean replicas?)",
        "  input is given 2 times",
        "  batch_size is given 2 times",
        "  dtype (int8) must be auto, float32, bfloat16 or float16",
        "  top_k (none) must be an integer",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "limit: yes\n",
            "limit (true) must not be true or false",
        ),  # YAML reads yes as true, which Python would take for 1
        (
            "max-quarantine: on\n",
            "max_quarantine (true) must not be true or false",
        ),  # would be 1, and nothing would stop the run
        ("column: no\n", "column (false) must not be true or false"),
        ("replicas: 0\n", "replicas (0) must be auto or at least 1"),
        ("points: [[1]]\n", "points ([1]) must be a pair of numbers, as in 10,20 30,40"),
        ("limit: 2024-13-45\n", "month"),
        ("limit: [1\n", "line 6, column 1"),
        ("limit: 1\n---\nlimit: 2\n", "a single document"),
        ("<<: {limit: 1}\n", "<< is not a valid option"),
        ("5: x\n", "5 is not a valid option"),
        ("? [a]\n: 3\n", "unhashable"),
        (b"column: \xff\xfe\n", "#x00ff"),
        ("column: !!python/name:os.system\n", "python/name:os.system"),
    ],
)
def test_mistake_in_a_file_is_named(job: Callable[..., str], text: str | bytes, message: str) -> None:
    path = job(text)
    with pytest.raises(UsageError) as caught:
        load_job(path)
    assert str(caught.value).startswith(f"{path}:\n")
    assert message in str(caught.value)


def test_file_that_is_not_a_mapping_is_refused(job: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match="is not a mapping"):
        load_job(job("- fill-mask\n", needed=""))


def test_incomplete_file_is_readable_but_is_not_a_run(job: Callable[..., str]) -> None:
    path = job(needed="task: fill-mask\n")
    assert read_job(path) == {"task": "fill-mask"}
    with pytest.raises(UsageError, match=r"(?s)output is required.*checkpoint is required"):
        load_job(path)


def test_variables_are_not_expanded_and_code_is_not_run(
    job: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUCKET", "somewhere")
    assert load_job(job("column: ${BUCKET}\n")).column == "${BUCKET}"
    with pytest.raises(UsageError, match="python/object"):
        load_job(job(f"column: !!python/object/apply:os.mkdir [{tmp_path}/made]\n"))
    assert not (tmp_path / "made").exists()


def test_job_file_can_be_in_a_bucket(s3: Any) -> None:
    bucket = s3.bucket("jobs")
    s3.client.put_object(Bucket=bucket.removeprefix("s3://"), Key="nightly/job.yaml", Body=NEEDED.encode())
    assert load_job(f"{bucket}/nightly/job.yaml").task == "fill-mask"
    with pytest.raises(UsageError, match=r"other\.yaml"):
        load_job(f"{bucket}/nightly/other.yaml")


def test_job_file_can_be_a_pipe_that_is_open_already_but_no_other_one(tmp_path: Path) -> None:
    """As bash gives it for `--job <(envsubst < job.yaml)`."""
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "w") as file:
        file.write(NEEDED)
        file.close()
        assert load_job(f"/dev/fd/{reader}").checkpoint == "models/language"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=f"job file {tmp_path}/pipe is a named pipe"):
        load_job(str(tmp_path / "pipe"))


def test_secret_in_the_uri_of_a_job_file_is_refused_and_not_repeated() -> None:
    with pytest.raises(AccessError) as caught:
        read_job("https://host/job.yaml?signature=canary-secret")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_missing_job_file_exits_2(verb: str, tmp_path: Path) -> None:
    code, output = perceiver(verb, "--job", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "none.yaml" in output


def test_command_line_options_override_the_file(job: Callable[..., str]) -> None:
    path = job("top-k: 3\nlogits: true\nlatents: true\nkeep-columns: [a]\nlimit: 7\n")
    options = options_of("--job", path, "--top-k", "5", "--no-logits", "--keep-columns", "b,c", "--points", "1,2 3,4")
    assert options == RunOptions(
        task="fill-mask", input="texts", output="filled", checkpoint="models/language",
        top_k=5, logits=False, latents=True, keep_columns=("b", "c"), points=((1, 2), (3, 4)), limit=7,
    )  # fmt: skip


def test_arguments_override_the_file(job: Callable[..., str]) -> None:
    options = options_of("text-classification", "other", "--job", job())
    assert (options.task, options.input, options.output) == ("text-classification", "other", "filled")


def test_options_missing_in_the_file_can_be_given_on_the_command_line(job: Callable[..., str]) -> None:
    path = job(needed="task: fill-mask\ncheckpoint: c\n")
    assert options_of("fill-mask", "in", "out", "--job", path).output == "out"
    code, output = perceiver("run", "--job", path)
    assert code == 2
    assert "INPUT is required" in output
    assert "OUTPUT is required" in output
    assert "--checkpoint" not in output


def test_output_can_be_given_by_name(job: Callable[..., str]) -> None:
    named = options_of("fill-mask", "in", "--output", "out", "--checkpoint", "c")
    assert (named.input, named.output) == ("in", "out")
    assert options_of("--output", "out", "--job", job()).output == "out"
    latents = options_of("optical-flow", "--output", "new", "--from-latents", "old", "--checkpoint", "c")
    assert (latents.input, latents.output) == ("", "new")
    code, output = perceiver("run", "fill-mask", "in", "out", "--output", "other", "--checkpoint", "c")
    assert code == 2
    assert "OUTPUT (out) and --output (other) differ: give one of them" in output


def test_from_latents_replaces_the_input(job: Callable[..., str]) -> None:
    alone = options_of("optical-flow", "new", "--from-latents", "old", "--checkpoint", "c")
    assert (alone.task, alone.input, alone.output, alone.from_latents) == ("optical-flow", "", "new", "old")
    over = options_of("--job", job(), "--from-latents", "old")
    assert (over.input, over.output, over.from_latents) == ("", "filled", "old")
    back = options_of(
        "fill-mask", "in", "out", "--job", job("from-latents: old\n", NEEDED.replace("input: texts\n", ""))
    )
    assert (back.input, back.from_latents) == ("in", None)


def test_input_together_with_from_latents_is_refused(job: Callable[..., str]) -> None:
    code, output = perceiver("run", "optical-flow", "in", "out", "--from-latents", "old", "--checkpoint", "c")
    assert code == 2
    assert "input (in) and from_latents (old) cannot be combined" in output


def test_mistakes_name_the_file_or_the_command_line_option(job: Callable[..., str]) -> None:
    code, output = perceiver("run", "--job", job("top_k: 0\n"), "--top-k", "3")
    assert code == 2
    assert "job.yaml: top_k (0) must be at least 1" in output
    code, output = perceiver("run", "--job", job("top_k: 3\n"), "--top-k", "0")
    assert code == 2
    assert "--top-k (0) must be at least 1" in output
    assert "job.yaml" not in output


def test_a_run_from_a_job_file_equals_a_run_from_options(
    job: Callable[..., str], tmp_path: Path, checkpoint: Path, write_images: Callable[..., None], backend: None
) -> None:
    import pyarrow.dataset as ds

    write_images(tmp_path / "images", range(6))
    values: dict[str, Any] = {
        "task": "image-classification",
        "input": tmp_path / "images",
        "output": tmp_path / "by-file",
        "checkpoint": checkpoint,
        "top-k": 2,
    }
    path = job(needed="".join(f"{name}: {value}\n" for name, value in values.items()))
    code, output = perceiver("run", "--job", path)
    assert code == 0, output
    code, output = perceiver(
        "run", "image-classification", str(values["input"]), str(tmp_path / "by-options"),
        "--checkpoint", str(checkpoint), "--top-k", "2",
    )  # fmt: skip
    assert code == 0, output
    by_file, by_options = (
        ds.dataset(tmp_path / name / "predictions").to_table(columns=["id", "label", "topk"]).sort_by("id")
        for name in ("by-file", "by-options")
    )
    assert by_file.num_rows == 6
    assert by_file.equals(by_options)
