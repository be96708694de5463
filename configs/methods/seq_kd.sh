# Sequence-level distillation (Kim & Rush, 2016): plain training on the teacher's translations (scripts/distill.sh DATA kd).
role=student
corpus=kd
method=(--criterion label_smoothed_cross_entropy)
