"""A recording as a source: what a live trace would have printed, with other filters and outputs."""
