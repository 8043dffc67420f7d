"""Output: the schema of rows, the format of parts, and their commit."""
