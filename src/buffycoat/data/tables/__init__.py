"""The data dictionary: one module per stage, for every table that crosses a stage border (columns, units, key)."""
