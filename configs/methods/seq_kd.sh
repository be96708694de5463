# Sequence-level distillation (Kim & Rush, 2016): plain training on the teacher's translations.
role=student
corpus=kd
method=(--criterion label_smoothed_cross_entropy)
