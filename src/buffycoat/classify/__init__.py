"""Branch A: five folds of an image classifier, predicted in eight views."""
