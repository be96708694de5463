# The student trained without a teacher: the baseline for every method.
role=student
method=(--criterion label_smoothed_cross_entropy)
