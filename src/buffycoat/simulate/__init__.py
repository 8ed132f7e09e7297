"""The embedded data set: drawn smear fields in the layout of WBCBench 2026, with the truth beside them."""
