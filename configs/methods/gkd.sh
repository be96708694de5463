# On-policy distillation with JS divergence (GKD, Agarwal et al., 2024), after a warm start with KL (f-distill, Wen et al., 2023).
role=student
method=(--criterion gkd --kd-divergence js --gkd-lambda 0.5 --gkd-warmup-updates 1000)
