"""A run: from options to committed parts.

    options.py, job_file.py   options of a run, from the command line or a YAML file
    driver/                   checks and prepares a run, runs its passes, shows progress; estimate and status
    plan/                     listing of INPUT → frozen shards; limit; retry of quarantined units
    ray_backend/              the Ray Dataset of a pass, connection, resources, failures; the only part that imports ray
    stages/                   load, predict, write: the code that runs in workers
    records/                  run.json, receipts, crash counts, manifest and committed parts in OUTPUT
    errors.py                 errors that end a run

`driver.run.execute` runs everything:

1. `driver.checks` checks INPUT, OUTPUT and checkpoint; `ray_backend.connect` and `.resources` choose the cluster's
   resources; `records.run_file` claims OUTPUT; `plan.planner` freezes the plan (all of this in `driver.prepare`).
2. `driver.run` lists the committed parts (`records.committed`) and starts a pass over the remaining shards.
3. `ray_backend.dataset` builds load → predict → write from `stages`. Each committed shard yields a receipt,
   which the driver counts and stores (`records.receipts`).
4. Shards that crashed their worker run again in later passes, isolated. At the end the driver checks the counts and
   writes the manifest.

The driver calls plan, records and ray_backend; ray_backend calls stages; stages use records.
"""
