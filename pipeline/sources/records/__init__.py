"""What is read of a record: its columns, and the medium in it."""
