"""The same command after a finished run, as a schedule gives it: without new inputs, Ray is not even connected to."""

from __future__ import annotations

from collections.abc import Callable

from tests.situations.situation import Ended, Situation, World

DEAD = {"RAY_ADDRESS": "127.0.0.1:1"}  # an address where no cluster answers
IMAGES = 5


def again(*more: str, change: Callable[[World], object] | None = None) -> Callable[[World], Ended]:
    """Finish a run over a folder, change something, and give its command again."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(IMAGES))
        first = world.run()
        assert first.code == 0, first.printed
        if change:
            change(world)
        return rerun(world, str(world.input), str(world.output), *more)

    return act


def again_in_a_bucket(world: World) -> Ended:
    """Finish a run from a bucket to a bucket, and give its command again."""
    s3 = world.request.getfixturevalue("s3")
    bucket = s3.bucket("nightly")
    world.write_images(world.input, range(IMAGES))
    for image in world.input.iterdir():
        s3.client.put_object(Bucket=bucket.removeprefix("s3://"), Key=f"in/{image.name}", Body=image.read_bytes())
    flags = ("--checkpoint", str(world.checkpoint), "--no-report", "--trusted-inputs")
    first = world.command("run", "image-classification", f"{bucket}/in", f"{bucket}/out", *flags)
    assert first.code == 0, first.printed
    return rerun(world, f"{bucket}/in", f"{bucket}/out")


def rerun(world: World, input: str, output: str, *more: str) -> Ended:
    flags = ("--checkpoint", str(world.checkpoint), "--trusted-inputs")
    return world.process("run", "image-classification", input, output, *flags, *more, environment=DEAD)


def add_image(world: World) -> None:
    world.write_images(world.input, range(IMAGES, IMAGES + 1))


DONE = "done: 5 rows and 0 quarantined, of 5 units, 0 left out, in 3 parts, 3 of them earlier"
NOTHING_NEW = {
    "nothing new in a folder": Situation(act=again(), code=0, says=DONE),
    "nothing new in a bucket": Situation(act=again_in_a_bucket, code=0, says="done: 5 rows", is_slow=True),
    "nothing new and nothing quarantined to retry": Situation(
        act=again("--retry-quarantined"), code=0, says=DONE, is_slow=True
    ),
    "a new input where no cluster answers": Situation(
        act=again(change=add_image),
        code=2,
        says="error: no Ray cluster answers at the address in the environment variable RAY_ADDRESS (127.0.0.1:1)",
        is_slow=True,
    ),
}
