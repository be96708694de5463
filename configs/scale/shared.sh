# Training settings shared by all models, teachers and students, on all data sets.
training=(
    --label-smoothing 0.1
    --optimizer adam --adam-betas "(0.9, 0.98)"
    --lr-scheduler inverse_sqrt
    --seed 1
    --log-format json
)

no_dropout=(--dropout 0)  # the flags that switch off all dropout of a data set's models

# choose_by_bleu BEAM LENPEN: the flags to keep the checkpoint with the best validation BLEU
choose_by_bleu() {
    echo --eval-bleu --eval-bleu-detok space --eval-tokenized-bleu --eval-bleu-remove-bpe \
        --eval-bleu-args "{\"beam\":$1,\"lenpen\":$2}" \
        --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
}

# linear_decay UPDATES WARMUP: the flags of a learning rate that falls linearly from the end of the warm-up to the last update
linear_decay() {
    echo --lr-scheduler polynomial_decay --total-num-update "$1" --warmup-updates "$2" --end-learning-rate 1e-5
}

# check_updates USE: refuse a data set whose students train for a number of epochs; USE says what the experiment does
check_updates() {
    [[ " ${student_training[*]} " == *" --max-update "* ]] ||
        fail "the experiment $experiment $1, but $data trains for a number of epochs; choose other data"
}

# longer TIMES: the flags, one per line, to train a student TIMES as long as the settings of its data set say
longer() {
    local position
    for ((position = 0; position < ${#student_training[@]}; position++)); do
        case ${student_training[position]} in
        --max-update | --total-num-update)
            printf '%s\n' "${student_training[position]}" $(($1 * student_training[position + 1]))
            ;;
        esac
    done
}
