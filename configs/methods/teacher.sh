# The teacher itself: the teacher's model, plain training.
role=teacher
method=(--criterion label_smoothed_cross_entropy)
