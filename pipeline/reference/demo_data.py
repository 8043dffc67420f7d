"""Data of `perceiver demo`: photos, texts, a generated video with audio, and small random checkpoints."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.reference.published_configs import FLOW, FOURIER, MASKED_LM, MULTIMODAL, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.reference.sample_media import FPS, write_video

IMAGE_SUFFIXES = (".png", ".jpg", ".tif", ".gif")
TEXTS = (
    "The encoder reads all inputs [MASK], into few latents.",
    "Every output query asks the [MASK] for one answer.",
    "Größere Bilder, längere Texte: alles sind [MASK].",
    "A text without a mask is left as it is.",
)
_SHORT_TEXT = {"max_position_embeddings": 128}
_CLIP: Mapping[str, Any] = {
    "num_frames": 16,
    "audio_samples_per_frame": 1920,
    "samples_per_patch": 16,
    "output_shape": [1, 16, 32, 32],
}


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One run of the demo: a task, its sample folder, the class and config changes of its checkpoint, other options."""

    task: str
    samples: str
    model_class: str
    changes: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def checkpoint(self, folder: Path) -> Path:
        """Return the checkpoint, created if absent. Its weights are random, so its predictions have no meaning."""
        target = folder / self.model_class
        if not (target / "config.json").exists():
            make_checkpoint(self.model_class, small(self.model_class, **self.changes), target)
        return target


_IMAGES: Mapping[str, Any] = {
    "samples": "images",
    "model_class": FOURIER,
    "changes": {"num_labels": 10},
    "options": {"max_quarantine": 0.2},  # one image is damaged
}
DEMOS = (
    Demo(task="image-classification", **_IMAGES),
    Demo(task="fill-mask", samples="texts", model_class=MASKED_LM, changes=_SHORT_TEXT),
    Demo(task="text-classification", samples="texts", model_class=SEQUENCE, changes=_SHORT_TEXT),
    Demo(task="optical-flow", samples="videos", model_class=FLOW, changes={"train_size": [48, 64]}, options={"fps": 5}),
    Demo(task="multimodal-autoencoding", samples="videos", model_class=MULTIMODAL, changes=_CLIP),
    Demo(task="feature-extraction", **_IMAGES),
)


def make_samples(folder: Path) -> None:
    """Write `images/` (scikit-image's samples and a truncated one), `texts/` and `videos/` to a folder.

    ImportError without scikit-image.
    """
    import skimage.data

    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(skimage.data.__file__).parent.iterdir()):
        if path.suffix in IMAGE_SUFFIXES:
            shutil.copyfile(path, images / path.name)
    (images / "damaged.jpg").write_bytes((images / "rocket.jpg").read_bytes()[:5000])
    (folder / "texts").mkdir(exist_ok=True)
    (folder / "texts" / "lines.txt").write_text("\n".join(TEXTS))
    photo = skimage.data.chelsea()
    # 72 × 96 pixels of the photo, which drift by one pixel per frame
    frames = (photo[60:204:2, 100 + 2 * number : 292 + 2 * number : 2] for number in range(2 * FPS))
    write_video(folder / "videos" / "drift.mp4", frames, size=(72, 96), audio_seconds=2)
