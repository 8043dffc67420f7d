"""Ray as the back end: the only package of the runtime that imports ray."""
