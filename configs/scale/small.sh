# Training on up to some tens of thousands of sentences, which a CPU can handle.
. "$root/configs/scale/shared.sh"
training+=(
    --weight-decay 0.0001 --clip-norm 1.0
    --save-interval-updates 500 --keep-interval-updates 1 --no-epoch-checkpoints
    --log-interval 25
)
max_tokens=3000
effective_tokens=3000
generation=(--beam 4 --lenpen 0.6 --max-tokens 6000)
remove_subwords=(--remove-bpe sentencepiece)
