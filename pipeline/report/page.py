"""The page: templates with escaped values, one style sheet, and a policy that allows nothing from outside."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from pipeline.formatting import count, counted, duration, percent, share, size
from pipeline.originals.originals import Absent, Original
from pipeline.originals.preview import IMAGE_SIDE, shrink
from pipeline.report.data_uris import jpeg_uri
from pipeline.report.sections.clips import original_video
from pipeline.report.sections.flow import frames_of
from pipeline.report.shown_text import ShownText, shown_name, shown_text


def render(
    template: str = "report.html",
    *,
    package: str = "pipeline.report",
    originals: Mapping[str, Original],
    **values: Any,
) -> str:
    """Return a page as HTML. Whatever is given is text, and escaped, but for plots.

    package: The one with the template, which may extend and include those of the report.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pipeline.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {each.__name__: each for each in (count, counted, duration, percent, share, size)}
    environment.filters["code"] = _with_code
    environment.filters["name"] = shown_name
    style = resources.files("pipeline.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    shown: dict[str, Callable[[str], Any]] = {
        "thumbnail": cache(lambda unit_id: thumbnail(originals[unit_id])),
        "frames": cache(lambda unit_id: frames_of(originals[unit_id])),
        "clip": cache(lambda unit_id: original_video(originals[unit_id])),
    }
    return environment.get_template(template).render(
        style=Markup(style),  # noqa: S704 - a file of this package
        policy=content_policy(style),
        **shown,
        **values,
    )


def content_policy(style: str) -> str:
    """Return the Content-Security-Policy of a page with this style sheet: no script, no request, no other style."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )


def thumbnail(original: Original) -> Mapping[str, Any]:
    """Return the `image` of an original as data URI, its `text`, or the `reason` why it is not shown."""
    if isinstance(original, Absent):
        return {"image": "", "text": None, "reason": shown_name(original.reason, 300)}
    if original.frames is None:
        cut = shown_text(original.text)
        text = cut if len(original.text) == original.letters else ShownText(cut.text, original.letters)
        return {"image": "", "text": text, "reason": ""}
    return {"image": jpeg_uri(shrink(original.frames[0], IMAGE_SIDE)), "text": None, "reason": ""}


def _with_code(text: str) -> Any:
    """Return a text whose words between backticks are set as code."""
    from markupsafe import Markup, escape

    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )
