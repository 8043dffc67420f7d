"""Benchmarks of `perceiver bench`.

engine.py         engine against transformers on one batch: seconds per batch, errors, peak memory
roofline.py       least seconds for the engine's arithmetic at the device's measured rates
peak_memory.py    memory of loading a checkpoint and predicting one batch
tokenizer.py      tokenizer against PerceiverTokenizer: texts per second
whole_runs.py     whole runs against the engine alone and against plain scripts: units per second
scaling.py        whole runs with 1, 2, 4 … replicas: units per second
measurements.py   measures one whole run, one plain script, the engine alone; monitor.py watches the model's process
workloads.py      files, checkpoint and options of whole runs
baseline.py       parts of the plain scripts; baseline_ray.py and baseline_daft.py are the scripts
timing.py         clock and statistics; tables.py draws the results
"""
