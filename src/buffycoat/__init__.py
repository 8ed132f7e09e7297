"""Classifies white blood cells in smear images when the classes that matter are the rare ones.

The stages, in the order in which files flow:

simulate    draws the embedded data set
index       checks every image and label once, and makes the folds
crop        finds and cuts out the primary white cell
partition   flags noisy crops
restore     restores them where that helps
classify    branch A: five folds of an image classifier
embed       branch B: embeddings and a contrastive head
refine      finds rare cells again, with evidence
report      scores, predictions, submission, and a page for a person
"""
