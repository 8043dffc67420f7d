"""One thin module a verb: `python -m jobs.<verb>` is `perceiver <verb>`."""
