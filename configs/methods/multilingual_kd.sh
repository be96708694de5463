# Multilingual distillation (Tan et al., 2019), here with a single language pair and the settings of the authors' code.
role=student
method=(--criterion multilingual_kd --kd-alpha 0.9 --kd-top-k 4 --kd-temperature 0.6 --stopping threshold)
