# Your own text, a million training pairs or more, for several GPUs. The models are those of WMT.
. "$root/configs/scale/wmt.sh"

training+=(--keep-interval-updates 5)  # epochs may be too few to average
teacher_training+=(--max-update "$updates")
student_training+=(--max-update "$updates")
average=(--last-updates 5)
[ "$updates" -ge 25000 ] || average=() # with fewer checkpoints, evaluate the best one
generation=(--beam 4 --lenpen 0.6 --max-tokens 8000)
remove_subwords=(--remove-bpe sentencepiece)
tokenised_bleu=
