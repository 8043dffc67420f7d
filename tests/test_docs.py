"""Examples in the documentation: files are tested and run as written, and commands are valid."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cloudpickle as children
import numpy as np
import pyarrow.parquet as pq
import pytest
import skimage.data
import torch
from PIL import Image
from ray import cloudpickle
from rich.console import Console
from typer.main import get_command

from jobs import run_command
from jobs.cli import app
from pipeline.heads import HEADS
from pipeline.reference import transformers_model
from pipeline.reference.published_configs import CONV, FLOW, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.reference.sample_inputs import sample_inputs
from pipeline.runtime.driver.run import execute
from pipeline.runtime.options import InHelp, RunOptions
from pipeline.sources import SOURCES
from pipeline.sources.images import image_formats
from pipeline.sources.video.container import CODECS
from tests import reference_outputs

ROOT = Path(__file__).parents[1]
EXTENDING = (ROOT / "docs/extending.md").read_text()
FILES = dict(re.findall(r"```(?:python|text)\n# ((?:pipeline|tests)/\S+)[^\n]*\n(.*?)```", EXTENDING, re.DOTALL))


PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "deploy/README.md"]
COMMAND_LINE = ROOT / "docs/usage/command-line.md"


def code_blocks(page: Path, language: str = "") -> list[str]:
    """Return the code blocks of a page in one language; "" for those without."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def options_table() -> list[str]:
    """Return the lines of the table of options in docs/usage/command-line.md, from the options themselves."""
    lines: list[str] = []
    panel = ""
    for name, field in RunOptions.model_fields.items():
        shown = next((note for note in field.metadata if isinstance(note, InHelp)), None)
        if shown is None:
            continue
        if shown.panel != panel:
            panel = shown.panel
            lines += ["", f"### {panel}", "", "| option | default | effect |", "| --- | --- | --- |"]
        default = "required" if field.is_required() else "" if field.default in (None, (), False) else field.default
        default = "yes" if default is True else default
        effect = " ".join(str(field.description).split())
        effect += f" Example: `{field.examples[0]}`." if field.examples else ""
        default = f"{default:g}" if isinstance(default, float) else default
        lines.append(f"| `--{name.replace('_', '-')}` | {default} | {effect} |")
    return lines[1:]


def test_options_are_documented_as_they_are() -> None:
    page = COMMAND_LINE.read_text()
    assert "\n".join(options_table()) in page, "copy the output of `python -m tests.test_docs` into the page"


def formats_table() -> list[dict[str, str]]:
    """Return the rows of the table of libraries in docs/inputs.md."""
    text = (ROOT / "docs/inputs.md").read_text()
    lines = text[text.index("| kind | extensions |") :].partition("\n\n")[0].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_formats_are_documented_as_they_are() -> None:
    rows = formats_table()
    documented = [extension for row in rows for extension in row["extensions"].split()]
    extensions = {".json"}.union(*(source.extensions for source in SOURCES.values()))
    assert sorted(documented) == sorted({f".{part}" for extension in extensions for part in extension.split(".")[1:]})
    images = [name for row in rows if row["library"].startswith("pillow") for name in row["name"].split()]
    assert sorted(images) == sorted(image_formats.FORMATS)
    videos = {row["name"]: row["read"] for row in rows if row["library"] == "av"}
    assert videos == {
        name: "all codecs of FFmpeg" if codecs is None else ", ".join(sorted(codecs)) for name, codecs in CODECS.items()
    }


def test_libraries_of_formats_are_declared_and_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {"": project["dependencies"], **project["optional-dependencies"]}
    for row in formats_table():
        if row["library"] != "Python":
            assert row["library"] in {re.split(r"[\[>=]", line)[0] for line in declared[row["extra"]]}, row["kind"]
            assert importlib.metadata.version(row["library"])
    extras = {row["extra"] for row in formats_table()} - {""}
    assert extras == {extra for _, extra in image_formats.PLUGINS.values()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_of_the_project(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def commands() -> list[str]:
    """Return every `perceiver` command in the code blocks of the pages."""
    text = "\n".join(block for page in PAGES for block in code_blocks(page)).replace("\\\n", " ")
    found = [line.partition("  #")[0].strip() for line in text.splitlines() if line.startswith("perceiver ")]
    assert len(found) > 15
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("command", commands())
def test_commands_in_the_documentation_are_valid(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, verb, *arguments = shlex.split(command)
    context = get_command(app).get_command(None, verb).make_context(verb, arguments)  # type: ignore[attr-defined]
    if verb in ("run", "plan"):
        typed = {name: value for name, value in context.params.items() if run_command.is_typed(context, name)}
        options = run_command.merge_options(typed.pop("job", None), typed)
        assert options.task in HEADS


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that loads a file of docs/extending.md as a module, which workers get by value."""

    def load(key: str) -> ModuleType:
        path = tmp_path / Path(key).name
        path.write_text(FILES[key])
        name = key.removesuffix(".py").replace("/", ".")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        cloudpickle.register_pickle_by_value(module)
        children.register_pickle_by_value(module)  # for the sandboxes of workers
        return module

    return load


def rows(output: Path) -> list[dict]:
    return [row for part in sorted((output / "predictions").iterdir()) for row in pq.read_table(part).to_pylist()]


def test_the_example_of_a_head_runs(written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: None) -> None:
    head = written("pipeline/heads/image_uncertainty.py")
    written("tests/heads/test_image_uncertainty.py").test_a_certain_label_has_0_bits_and_four_equal_ones_have_2()
    assert FILES["pipeline/heads/__init__.py,"].strip() == f'"{head.ImageUncertainty.task}": ImageUncertainty,'
    monkeypatch.setitem(HEADS, head.ImageUncertainty.task, head.ImageUncertainty)
    images = [skimage.data.chelsea(), skimage.data.astronaut()]
    (tmp_path / "in").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"in/{number}.png")
    model = make_checkpoint(CONV, small(CONV), tmp_path / "model")
    options = {"task": "image-uncertainty", "input": str(tmp_path / "in"), "checkpoint": str(model)}
    execute(RunOptions(output=str(tmp_path / "out"), **options), console=Console(file=io.StringIO()))
    scores = torch.from_numpy(reference_outputs.image_logits(model, images)).softmax(dim=1).numpy()
    expected = -(scores * np.log2(scores)).sum(axis=1)
    np.testing.assert_allclose([row["entropy"] for row in rows(tmp_path / "out")], expected, atol=1e-4)


def test_the_example_of_a_source_runs(written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: None) -> None:
    source = written("pipeline/sources/subtitles.py").SUBTITLES
    written("tests/sources/test_subtitles.py").test_each_subtitle_is_a_text(tmp_path)
    assert FILES["pipeline/sources/__init__.py,"].strip() == "SUBTITLES,"
    monkeypatch.setitem(SOURCES, source.name, source)
    model = make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path / "model")
    options = {"task": "text-classification", "input": str(tmp_path / "talk.srt"), "checkpoint": str(model)}
    for number, input_format in enumerate(("auto", "subtitles")):
        output = tmp_path / f"out-{number}"
        run = RunOptions(output=str(output), input_format=input_format, logits=True, **options)
        execute(run, console=Console(file=io.StringIO()))
        expected = reference_outputs.text_logits(model, ["One line, and another.", "End."])
        np.testing.assert_allclose([row["logits"] for row in rows(output)], expected, atol=1e-4)
        assert [row["id"] for row in rows(output)] == ["talk.srt#1", "talk.srt#2"]


def test_the_examples_of_the_engine_run(tmp_path: Path) -> None:
    images_example, flow_example = code_blocks(ROOT / "docs/engine.md", "python")
    image_model = make_checkpoint(CONV, small(CONV), tmp_path / "images")
    values = {"checkpoint": str(image_model), "images": sample_inputs(small(CONV), CONV, 2, 0)}
    exec(images_example, values)
    expected = transformers_model.predict(transformers_model.load(image_model), values["images"], None)["logits"]
    torch.testing.assert_close(values["logits"], expected, rtol=0, atol=1e-5)

    flow_model = make_checkpoint(FLOW, small(FLOW), tmp_path / "flow")
    points = torch.tensor([5, 0, 17])
    values |= {"patches": sample_inputs(small(FLOW), FLOW, 2, 0), "points": points}
    values["model"] = values["PerceiverIO"].from_pretrained(str(flow_model))
    exec(flow_example, values)
    expected = transformers_model.predict(transformers_model.load(flow_model), values["patches"], None)["flow"]
    torch.testing.assert_close(values["flow"], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(values["at_points"], expected.flatten(1, 2)[:, points], rtol=0, atol=1e-5)


if __name__ == "__main__":
    print("\n".join(options_table()))
