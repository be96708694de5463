# The methods compared in docs/results.md. Systems trained from stores of predictions come first.
[ "$data" = multi30k ] || fail "the experiment comparison is for multi30k, for which there is a teacher with other subwords"
checkpoint_of() { echo "$work/$1/checkpoint_best.pt"; }

# shellcheck source=/dev/null
. "$root/configs/experiments/recommended.sh"

# word-level distillation from stores: of the teacher, ...
store teacher cache --teacher-path "$(teacher_checkpoint)" --top-k 8
STORE=teacher system word_kd_stored word_kd

# ... of one with other subwords, ...
other_teacher multi30k_unigram
unigram=${NMT_KD_RUNS:-$root/runs}/multi30k_unigram
store other_vocabulary cache --source other-vocabulary --teacher-path "$unigram/teacher/checkpoint_best.pt" --top-k 8 \
    --other-vocabulary-data "$unigram/data-bin" --other-vocabulary-subwords "$unigram/subwords/subwords.model" \
    --other-vocabulary-student-subwords "$work/subwords/subwords.model"
STORE=other_vocabulary system word_kd_other_vocabulary word_kd

# ... of the neighbours of plain's states and of plain itself, half each, which predict the validation set best, ...
store datastore datastore --teacher-path "$(checkpoint_of plain)"
store neighbours neighbours --teacher-path "$(checkpoint_of plain)" --knn-datastore "$work/stores/datastore" --knn-k 64 \
    --knn-index faiss
store knn cache --source knn --teacher-path "$(checkpoint_of plain)" --knn-neighbours "$work/stores/neighbours" --top-k 16 \
    --knn-share 0.5
STORE=knn system knn_kd word_kd

# ... and of a masked model, which starts from a teacher of its shape: at temperature 10, as in the paper, and at 1
system masked_teacher masked_teacher --finetune-from-model "$(teacher_checkpoint)"
masked=$(checkpoint_of masked_teacher)
store masked cache --source masked --teacher-path "$masked" --top-k 8
STORE=masked system word_kd_masked word_kd
store masked_t1 cache --source masked --teacher-path "$masked" --top-k 8 --masked-temperature 1
STORE=masked_t1 system word_kd_masked_t1 word_kd

# other methods from the teacher's store
STORE=teacher system selective_kd_stored selective_kd
STORE=teacher system probing_kd_stored probing_kd
STORE=teacher system word_kd_js_stored word_kd --kd-divergence js
STORE=teacher system word_kd_js_stored_085 word_kd --kd-divergence js --kd-alpha 0.85

# methods that train on the teacher's translations
system seq_kd seq_kd
system seq_kd_base seq_kd_base
CORPUS=mbr system seq_kd_mbr seq_kd
CORPUS=best-4 system seq_kd_best_4 seq_kd
STORE=teacher_kd system seq_kd_tie_kd_stored seq_kd_tie_kd --kd-iterations 1

# how much of the recommended recipe's gain is due to training without dropout
system plain_no_dropout plain "${no_dropout[@]}"
STORE=teacher system word_kd_stored_no_dropout word_kd "${no_dropout[@]}"
system seq_kd_no_dropout seq_kd "${no_dropout[@]}"
STORE=teacher_kd system seq_kd_tie_kd_stored_no_dropout seq_kd_tie_kd --kd-iterations 1 "${no_dropout[@]}"

# methods without a teacher
system r_drop r_drop
system seer_forcing seer_forcing
system online_kd online_kd

# methods that run the teacher
system word_kd word_kd
system annealing_kd annealing_kd
system ckd ckd
system tie_kd tie_kd

# the reverse teacher, for back-translations
system reverse_teacher reverse_teacher
CORPUS=base+kd+bt system seq_kd_base_bt seq_kd
