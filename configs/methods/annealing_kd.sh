# Annealing distillation, with the recipe of the TIE-KD paper (Jafari et al., 2021).
role=student
method=(--criterion annealing_kd --annealing-loss kl --annealing-temperature 1.1)
