"""The stages of a shard: load, predict and write.

A row of the Ray Dataset is one shard, packed by `shard_format.pack`: a table of units, a table of quarantined units
and scalars. The way of one shard:

1. load (`load.load`, a task) takes a plan row {file, sha256, row, shard}, reads the pieces of that row from the plan
   file, and reads their units in parallel (`load.read`):

   - `isolated_reader.IsolatedReader` reads pieces in a sandbox, `load` in the task's process if inputs are
     trusted. Either way `unit_reader.read_steps` decodes a unit and calls the head's `transform`.
   - `result_batches.ResultBatch` carries results out of the sandbox.
   - `load.to_tables` and `shard_format.pack_arrays` make the packed shard of arrays.

   A unit is quarantined alone if it cannot be decoded or transformed, hangs, crashes its process or exhausts its
   memory. A piece is read again after a transient storage error. Lost access to INPUT sets the scalar `fatal`, which
   ends the run.

2. predict (`predict.Replica`, an actor) turns it into a packed shard of rows:

   - `micro_batches.MicroBatches` sorts units into the head's buckets and cuts these into micro-batches, whose size
     comes from `batch_sizes.BatchSizes`.
   - `model_runner.ModelRunner` predicts a micro-batch: the head's `collate`, copy to the device (`device.to_device`),
     `encode`, `decode` and `rows`. `finite_check.FiniteCheckedModel` looks for NaN and infinity.
   - `output_table.output_table` makes Arrow columns of it; `assemble_rows` restores plan order.

   A micro-batch that fails is halved until the failing unit is alone. It is tried once more with the device for itself
   if memory was short, and in float32 if it was not finite; then it is quarantined. A lost GPU ends the process, and
   Ray retries the shard in another one.

3. write (`write.write`, a task) encodes media as files (`media_encoding.encode_media`) and commits the part with its
   footer and its quarantine (`write.commit_valid_rows`). It returns the shard's receipt to the driver.

   A row that cannot be encoded or written is quarantined. If another attempt committed the part first, its footer
   counts. A permission error or a full disk sets `fatal`.

A shard that crashes its process again and again is retried apart from others, with the risky work of each stage in a
sandbox: `isolated_reader`, `isolated_replica.IsolatedReplica` and `media_encoding.encode_in_sandbox`. If it still
crashes, `load` quarantines all of its units unread (`load.GivenUp`), and `load.skip_predict` replaces predict. All of
these, and planning (`plan.isolated_source`), find the item that crashes by `sandbox.run_items`.
"""
