"""The stages of a shard: load, predict, write."""
