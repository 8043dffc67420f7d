"""How a run reads images, which an OUTPUT keeps: earlier versions composited on white and did not count frames."""

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from pipeline.media import MediumKind
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.run_file import EARLIER_FINGERPRINT, Run

FRAMES = "frames"
"""Column with the number of frames in an image's file."""


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """How images are read.

    Attributes:
        transparency: what becomes of it; None if the run reads no images.
        counts_frames: whether rows have the column `frames`.
        from_earlier: whether OUTPUT was begun by an earlier version, whose rules these are.
    """

    transparency: Literal["drop", "white"] | None = None
    counts_frames: bool = False
    from_earlier: bool = False

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The entries of the fingerprint in run.json, without those that earlier versions did not have."""
        rules: dict[str, Any] = {} if self.transparency is None else {"transparency": self.transparency}
        return rules | ({"frames": True} if self.counts_frames else {})

    @property
    def notes(self) -> list[str]:
        """What the user did not ask for."""
        said = "OUTPUT was begun by an earlier version: transparent images are composited on white, as before"
        return [said] if self.from_earlier else []

    @property
    def columns(self) -> pa.Schema:
        """Schema of the columns that reading an image adds to its row."""
        return pa.schema([(FRAMES, pa.int32())] if self.counts_frames else [])


def image_rules(options: RunOptions, medium: MediumKind, run: Run | None) -> ImageRules:
    """Return the rules for units of this kind: those of the run in OUTPUT if there is one, else those of the options.

    A rule that the options name and that OUTPUT does not have is refused later, by the fingerprint.
    """
    if medium not in ("image", "frame_pair") or options.from_latents is not None:
        return ImageRules()
    named = None if options.transparency == "auto" else options.transparency
    earlier = run.fingerprint if run else None
    if earlier is None or earlier["head"] != options.task:
        counts = medium == "image" and FRAMES not in options.keep_columns  # a user's own column of that name stays
        return ImageRules(transparency=named or "drop", counts_frames=counts)
    kept: Literal["drop", "white"] = (EARLIER_FINGERPRINT | earlier)["transparency"]
    return ImageRules(
        transparency=named or kept,
        counts_frames=bool(earlier.get("frames")),
        from_earlier="transparency" not in earlier,
    )
