# The student without a teacher, which every method is compared with.
role=student
method=(--criterion label_smoothed_cross_entropy)
