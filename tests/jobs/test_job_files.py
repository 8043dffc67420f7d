"""Job files: what they may say, what is wrong with them in one message, and the command line over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from jobs.cli import app
from jobs.run_command import from_options
from pipeline.runtime import RunOptions, UsageError
from pipeline.runtime.job_file import load_job, read_job
from pipeline.storage import AccessError

JOBS = Path(__file__).parents[2] / "jobs"
NEEDED = "task: fill-mask\ninput: texts\noutput: filled\ncheckpoint: models/language\n"


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., str]:
    """`job(text)`: the path of a file with this text behind the four lines that every job needs."""

    def write(text: str | bytes = "", needed: str = NEEDED) -> str:
        path = tmp_path / "job.yaml"
        path.write_bytes(needed.encode() + (text if isinstance(text, bytes) else text.encode()))
        return str(path)

    return write


def options_of(*arguments: str) -> RunOptions:
    """The options that a command gets which has these arguments."""
    got: list[RunOptions] = []
    program = typer.Typer()
    program.command()(from_options(got.append))
    result = CliRunner().invoke(program, list(arguments))
    assert result.exit_code == 0, result.output
    return got[0]


def told(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_job_file_of_the_project_is_a_run_of_its_name(path: Path) -> None:
    options = load_job(str(path))
    assert options.task == path.stem
    assert options.input.startswith("s3://")
    assert options.output.startswith("s3://")
    for line in path.read_text().splitlines():
        assert not line or "#" in line, f"{line} is not explained"


def test_there_is_a_job_file_for_every_head() -> None:
    from pipeline.heads import HEADS

    assert {path.stem for path in JOBS.glob("*.yaml")} == set(HEADS)


def test_dashes_underscores_and_lists_say_the_same(job: Callable[..., str]) -> None:
    with_dashes = load_job(job("batch-size: 8\nkeep-columns: [a, b]\npoints: [[10, 20], [30, 40]]\nframes: [0, 8]\n"))
    as_typed = load_job(job("batch_size: 8\nkeep_columns: a,b\npoints: 10,20 30,40\nframes: 0,8\n"))
    assert with_dashes == as_typed
    assert (as_typed.keep_columns, as_typed.points) == (("a", "b"), ((10, 20), (30, 40)))


def test_all_mistakes_of_a_file_are_told_at_once(job: Callable[..., str]) -> None:
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
    ("text", "words"),
    [
        ("limit: yes\n", "limit (true) must not be true or false"),  # else it would be 1
        (
            "max-quarantine: on\n",
            "max_quarantine (true) must not be true or false",
        ),  # else nothing would ever stop the run
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
def test_what_is_wrong_is_named(job: Callable[..., str], text: str | bytes, words: str) -> None:
    path = job(text)
    with pytest.raises(UsageError) as caught:
        load_job(path)
    assert str(caught.value).startswith(f"{path}:\n")
    assert words in str(caught.value)


def test_a_file_must_be_a_mapping(job: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match="is not a mapping"):
        load_job(job("- fill-mask\n", needed=""))


def test_a_file_that_lacks_something_is_no_run_by_itself(job: Callable[..., str]) -> None:
    path = job(needed="task: fill-mask\n")
    assert read_job(path) == {"task": "fill-mask"}
    with pytest.raises(UsageError, match=r"(?s)output is required.*checkpoint is required"):
        load_job(path)


def test_nothing_is_expanded_or_run(job: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "somewhere")
    assert load_job(job("column: ${BUCKET}\n")).column == "${BUCKET}"
    with pytest.raises(UsageError, match="python/object"):
        load_job(job(f"column: !!python/object/apply:os.mkdir [{tmp_path}/made]\n"))
    assert not (tmp_path / "made").exists()


def test_a_job_file_comes_from_a_bucket_too(s3: Any) -> None:
    bucket = s3.bucket("jobs")
    s3.client.put_object(Bucket=bucket.removeprefix("s3://"), Key="nightly/job.yaml", Body=NEEDED.encode())
    assert load_job(f"{bucket}/nightly/job.yaml").task == "fill-mask"
    with pytest.raises(UsageError, match=r"other\.yaml"):
        load_job(f"{bucket}/nightly/other.yaml")


def test_a_job_file_s_address_holds_no_secrets() -> None:
    with pytest.raises(AccessError) as caught:
        read_job("https://host/job.yaml?signature=canary-secret")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_no_job_file_there_exits_2(verb: str, tmp_path: Path) -> None:
    code, output = told(verb, "--job", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "none.yaml" in output


def test_what_is_typed_goes_before_the_file(job: Callable[..., str]) -> None:
    path = job("top-k: 3\nlogits: true\nlatents: true\nkeep-columns: [a]\nlimit: 7\n")
    options = options_of("--job", path, "--top-k", "5", "--no-logits", "--keep-columns", "b,c", "--points", "1,2 3,4")
    assert options == RunOptions(
        task="fill-mask", input="texts", output="filled", checkpoint="models/language",
        top_k=5, logits=False, latents=True, keep_columns=("b", "c"), points=((1, 2), (3, 4)), limit=7,
    )  # fmt: skip


def test_arguments_go_before_the_file_too(job: Callable[..., str]) -> None:
    options = options_of("text-classification", "other", "--job", job())
    assert (options.task, options.input, options.output) == ("text-classification", "other", "filled")


def test_a_job_file_may_leave_things_to_the_command_line(job: Callable[..., str]) -> None:
    path = job(needed="task: fill-mask\ncheckpoint: c\n")
    assert options_of("fill-mask", "in", "out", "--job", path).output == "out"
    code, output = told("run", "--job", path)
    assert code == 2
    assert "INPUT is required" in output
    assert "OUTPUT is required" in output
    assert "--checkpoint" not in output


def test_latents_take_the_place_of_the_input(job: Callable[..., str]) -> None:
    alone = options_of("optical-flow", "new", "--from-latents", "old", "--checkpoint", "c")
    assert (alone.task, alone.input, alone.output, alone.from_latents) == ("optical-flow", "", "new", "old")
    over = options_of("--job", job(), "--from-latents", "old")
    assert (over.input, over.output, over.from_latents) == ("", "filled", "old")
    back = options_of(
        "fill-mask", "in", "out", "--job", job("from-latents: old\n", NEEDED.replace("input: texts\n", ""))
    )
    assert (back.input, back.from_latents) == ("in", None)


def test_an_input_and_latents_are_refused(job: Callable[..., str]) -> None:
    code, output = told("run", "optical-flow", "in", "out", "--from-latents", "old", "--checkpoint", "c")
    assert code == 2
    assert "give either an input or from_latents" in output


def test_mistakes_in_the_file_and_on_the_line_are_told_apart(job: Callable[..., str]) -> None:
    code, output = told("run", "--job", job("top_k: 0\n"), "--top-k", "3")
    assert code == 2
    assert "job.yaml: top_k (0) must be at least 1" in output
    code, output = told("run", "--job", job("top_k: 3\n"), "--top-k", "0")
    assert code == 2
    assert "--top-k (0) must be at least 1" in output
    assert "job.yaml" not in output


def test_a_run_by_job_file_is_the_run_by_options(
    job: Callable[..., str], tmp_path: Path, checkpoint: Path, write_images: Callable[..., None], cluster: None
) -> None:
    import pyarrow.dataset as ds

    write_images(tmp_path / "pictures", range(6))
    said: dict[str, Any] = {
        "task": "image-classification",
        "input": tmp_path / "pictures",
        "output": tmp_path / "by-file",
        "checkpoint": checkpoint,
        "top-k": 2,
    }
    path = job(needed="".join(f"{name}: {value}\n" for name, value in said.items()))
    code, output = told("run", "--job", path)
    assert code == 0, output
    code, output = told(
        "run", "image-classification", str(said["input"]), str(tmp_path / "by-options"),
        "--checkpoint", str(checkpoint), "--top-k", "2",
    )  # fmt: skip
    assert code == 0, output
    by_file, by_options = (
        ds.dataset(tmp_path / name / "predictions").to_table(columns=["id", "label", "topk"]).sort_by("id")
        for name in ("by-file", "by-options")
    )
    assert by_file.num_rows == 6
    assert by_file.equals(by_options)
