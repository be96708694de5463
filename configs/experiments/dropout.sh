# Do students of the teacher's translations need dropout, and are mixed corpora worth it (Gordon & Duh, 2019)? First for as
# many updates as plain, ...
check_updates "compares equal numbers of updates"
system teacher teacher
system plain plain
system seq_kd seq_kd
system seq_kd_base seq_kd_base
system reverse_teacher reverse_teacher
CORPUS=base+kd+bt system seq_kd_base_bt seq_kd

system plain_no_dropout plain "${no_dropout[@]}"
system seq_kd_no_dropout seq_kd "${no_dropout[@]}"
system seq_kd_base_no_dropout seq_kd_base "${no_dropout[@]}"
CORPUS=base+kd+bt system seq_kd_base_bt_no_dropout seq_kd "${no_dropout[@]}"

# ... then for as many epochs: the mixes have two and three times as many pairs
mapfile -t twice < <(longer 2)
mapfile -t thrice < <(longer 3)
system seq_kd_base_twice seq_kd_base "${twice[@]}"
system seq_kd_base_twice_no_dropout seq_kd_base "${no_dropout[@]}" "${twice[@]}"
CORPUS=base+kd+bt system seq_kd_base_bt_thrice seq_kd "${thrice[@]}"
CORPUS=base+kd+bt system seq_kd_base_bt_thrice_no_dropout seq_kd "${no_dropout[@]}" "${thrice[@]}"
