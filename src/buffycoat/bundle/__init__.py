"""Bundle: everything that was learned, in one folder that others can use."""
