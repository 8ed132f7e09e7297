"""Rare cells found again, with evidence: morphology, the fitted rules, and Algorithm 1."""
