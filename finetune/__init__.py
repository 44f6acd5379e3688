"""An encoder and a labelled task to a classifier, its thresholds and its evidence."""
