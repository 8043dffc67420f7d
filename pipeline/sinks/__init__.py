"""What is left in OUTPUT: the schema of rows, the parts they lie in, and how a part is committed."""
