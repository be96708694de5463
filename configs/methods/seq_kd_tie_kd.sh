# TIE-KD on the teacher's translations (TIE-KD paper, table 8).
role=student
corpus=kd
method=(--criterion tie_kd --kd-alpha 0.5 --ranking-top-k 5 --kd-iterations 3)
