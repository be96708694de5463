# Do students learn more from an ensemble of two teachers than from one? From stores, they train equally fast.
# shellcheck source=/dev/null
. "$root/configs/experiments/recommended.sh"
system teacher_2 teacher --seed 2
both=$(teacher_checkpoint):$work/teacher_2/checkpoint_best.pt
store teacher cache --teacher-path "$(teacher_checkpoint)" --top-k 8
STORE=teacher system word_kd_stored word_kd
store ensemble cache --teacher-path "$both" --top-k 8
STORE=ensemble system word_kd_ensemble word_kd
CORPUS=kd store ensemble_kd cache --teacher-path "$both" --top-k 8
CORPUS=kd STORE=ensemble_kd system recommended_ensemble recommended
