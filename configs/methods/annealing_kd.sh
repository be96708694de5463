# Annealing distillation (Jafari et al., 2021), with the settings of the TIE-KD paper.
role=student
method=(--criterion annealing_kd --annealing-loss kl --annealing-temperature 1.1)
