"""Records of a run in OUTPUT: run.json, receipts, crash counts, manifest, committed parts."""
