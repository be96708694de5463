# The recommended recipe: word-level distillation on the teacher's translations, without dropout; see docs/results.md.
role=student
corpus=kd
method=(--criterion word_kd --kd-alpha 0.5 "${no_dropout[@]}")
