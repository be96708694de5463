# What is gained if students train three times as long: plain training, the best methods and the recommended recipe.
check_updates "trains for more updates"
# shellcheck source=/dev/null
. "$root/configs/experiments/recommended.sh"
mapfile -t thrice < <(longer 3)
system plain_thrice plain "${thrice[@]}"
system plain_thrice_no_dropout plain "${no_dropout[@]}" "${thrice[@]}"
system ckd_thrice ckd "${thrice[@]}"
store teacher cache --teacher-path "$(teacher_checkpoint)" --top-k 8
STORE=teacher system word_kd_stored_thrice word_kd "${thrice[@]}"
STORE=teacher_kd system seq_kd_tie_kd_stored_thrice seq_kd_tie_kd --kd-iterations 1 "${thrice[@]}"
CORPUS=kd STORE=teacher_kd system recommended_thrice recommended "${thrice[@]}"
CORPUS=kd STORE=teacher_kd system recommended_thrice_dropout recommended --dropout 0.1 "${thrice[@]}"

# the recommended recipe on a corpus that is three times as large
system reverse_teacher reverse_teacher
CORPUS=base+kd+bt store teacher_mix cache --teacher-path "$(teacher_checkpoint)" --top-k 8
CORPUS=base+kd+bt STORE=teacher_mix system recommended_mix_thrice recommended "${thrice[@]}"
