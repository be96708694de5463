# Word-level distillation on the teacher's translations (TIE-KD paper, table 8).
role=student
corpus=kd
method=(--criterion word_kd --kd-alpha 0.5)
