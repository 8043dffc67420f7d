"""What a run records in OUTPUT besides predictions."""
