"""Errors of Ray become those of the runtime."""

import pytest

from pipeline.checkpoints import CheckpointChanged
from pipeline.runtime.errors import DeviceNotUsable, RunFailed
from pipeline.runtime.ray_backend.failures import translate_ray_errors

IN_A_REPLICA = """The actor died because of an error raised in its creation task, \x1b[36mray::ReplicaActor()\x1b[39m
  File "model_runner.py", line 53, in load
    raise CheckpointChanged(f"checkpoint {self.checkpoint} changed: {planned}")
pipeline.checkpoints.CheckpointChanged: checkpoint models/a changed: its digest is 1f, the run was planned with 0f"""


def test_changed_checkpoint_that_a_replica_finds_is_raised_in_the_driver_without_its_traceback() -> None:
    with pytest.raises(CheckpointChanged) as caught, translate_ray_errors():
        raise RuntimeError(IN_A_REPLICA)
    assert str(caught.value) == "checkpoint models/a changed: its digest is 1f, the run was planned with 0f"


def test_gpu_that_a_replica_cannot_use_is_raised_in_the_driver() -> None:
    in_a_replica = (
        IN_A_REPLICA.rpartition("\n")[0] + "\npipeline.runtime.errors.DeviceNotUsable: device (cuda) cannot …"
    )
    with pytest.raises(DeviceNotUsable, match=r"^device \(cuda\) cannot …$"), translate_ray_errors():
        raise RuntimeError(in_a_replica)


@pytest.mark.parametrize(
    "error",
    [
        RunFailed("4 of 8 shards are left"),
        RuntimeError("pipeline.checkpoints.CheckpointError: s3://b/m cannot be read"),
    ],
)
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translate_ray_errors():
        raise error
    assert caught.value is error
