"""Planning: from a listing of INPUT to frozen shards."""
