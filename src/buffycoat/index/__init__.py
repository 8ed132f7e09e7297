"""Every image of the data set, checked once, with a status; and the folds, by patient."""
