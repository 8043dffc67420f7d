"""What units were before they were predicted, read again from INPUT, as the run read them.

originals.py  the originals of some units, by a sandbox with limits
preview.py    in the sandbox: an original in small
source.py     the source of a run with its options, from run.json
"""
