"""Classifies white blood cells in smear images when the classes that matter are the rare ones."""
