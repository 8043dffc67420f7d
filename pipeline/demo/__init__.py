"""The small trained checkpoints that the package contains: their making, their measure, and `perceiver demo`."""
