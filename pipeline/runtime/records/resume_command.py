"""The command that resumes a run, from what run.json records."""

from pipeline.runtime.options import RunOptions, typed_value
from pipeline.runtime.records.run_file import Run
from pipeline.visible import shell_command

_ARGUMENTS = frozenset({"task", "input", "output"})


def resume_command(run: Run, output: str) -> str:
    """Return the command that began the run, with the places of INPUT and OUTPUT as they are from any folder."""
    options = run.record.get("options", {})
    words = ["perceiver", "run", run.fingerprint["head"]]
    words += [output] if options.get("from_latents") else [run.input, output]
    for name, field in RunOptions.model_fields.items():
        value, flag = options.get(name), name.replace("_", "-")
        if name in _ARGUMENTS or value in (None, [], field.default):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", typed_value(value)]
    return shell_command(words)
