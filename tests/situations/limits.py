"""Numbers and checkpoint files beyond any reasonable range."""

from __future__ import annotations

from collections.abc import Callable

from tests.situations.situation import Ended, Situation, World


def with_flags(*flags: str) -> Callable[[World], Ended]:
    """Run over one image with further flags."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(1))
        ended = world.run(*flags)
        assert not world.output.exists()
        return ended

    return act


LIMITS = {
    "an option with an absurd number": Situation(
        act=with_flags("--batch-size", "99999999999"),
        code=2,
        says="error: --batch-size (99999999999) must be auto or at most 1,000,000",
    ),
    "an option without end": Situation(
        act=with_flags("--unit-seconds", "inf"), code=2, says="error: --unit-seconds (inf) must be a finite number"
    ),
    "an option that is not a number": Situation(
        act=with_flags("--unit-memory", "nan"), code=2, says="error: --unit-memory (nan) must be a finite number"
    ),
}
