"""Cache a teacher's most probable words at every target position of a data set."""
