# Word-level distillation of the teacher's first choice only (TIE-KD paper, section 3).
role=student
method=(--criterion probing_kd --kd-alpha 0.5 --probing-loss top-k --probing-top-k 1)
