"""The data dictionary: one module per table that crosses a stage border (columns, units, key)."""
