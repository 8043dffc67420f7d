"""README.md of a shipped checkpoint, as on the Hugging Face Hub."""

import math
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from safetensors import safe_open

from pipeline.demo.recipe import SEED, Recipe

_CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: {task}
---

# perceiver-demo-{name}

A `{model_class}` of {parameters:,} parameters, trained on a CPU in minutes, to show what `perceiver run` does.
It is not a model for any other use.

- **Held-out data**: {value} {figure}. The bar is {bar}.
- **Data**: {data}
- **Licence of the data**: {licence}
- **Training**: `python -m pipeline.demo.train {name}`; {steps:,} steps of AdamW, learning rate up to {rate:g}, seed
  {seed}. Made with Python {python}, torch {torch}, transformers {transformers}.

```
perceiver run {task} INPUT OUTPUT --checkpoint demo:{name}
```
"""


def write_card(folder: Path, name: str, recipe: Recipe, value: float) -> None:
    """Write the card of a checkpoint in `folder`. value: its figure on held-out data."""
    trial = recipe.trial
    text = _CARD.format(
        name=name,
        task=trial.task,
        model_class=recipe.model_class,
        parameters=_count_parameters(folder),
        value=f"{value:.2f}",
        figure=trial.figure,
        bar=trial.bar_in_words,
        data=recipe.data,
        licence=recipe.licence,
        steps=recipe.schedule.steps,
        rate=recipe.schedule.rate,
        seed=SEED,
        python=python_version(),
        torch=version("torch"),
        transformers=version("transformers"),
    )
    (folder / "README.md").write_text(text)


def _count_parameters(folder: Path) -> int:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
