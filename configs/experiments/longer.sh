# How much of the gains remains if students train three times as long: without dropout, which does more harm than good to
# students as small as Multi30k's.
[[ " ${student_training[*]} " == *" --max-update "* ]] ||
    fail "the experiment longer trains for more updates, but $data trains for a number of epochs; choose other data"
# shellcheck source=/dev/null
. "$root/configs/experiments/recommended.sh"
mapfile -t thrice < <(longer 3)
system plain_thrice plain "${thrice[@]}"
system plain_thrice_no_dropout plain "${no_dropout[@]}" "${thrice[@]}"
store teacher cache --teacher-path "$(teacher_checkpoint)" --top-k 8
STORE=teacher system word_kd_stored_thrice_no_dropout word_kd "${no_dropout[@]}" "${thrice[@]}"
system seq_kd_thrice_no_dropout seq_kd "${no_dropout[@]}" "${thrice[@]}"
CORPUS=kd STORE=teacher_kd system recommended_thrice recommended "${thrice[@]}"
