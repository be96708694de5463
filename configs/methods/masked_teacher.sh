# A masked teacher (Ghazvininejad et al., 2019), whose predictions nmt-kd cache --source masked writes; see docs/masked.md.
role=teacher
without_teacher=yes
not_evaluated="a masked model cannot be decoded from left to right"
method=(--criterion nat_loss --task translation_lev --noise random_mask --arch cmlm_transformer)
# fairseq cannot validate it by BLEU; those settings are the last ones of a data set
for index in "${!teacher_training[@]}"; do
    if [ "${teacher_training[index]}" = --eval-bleu ]; then
        teacher_training=("${teacher_training[@]:0:index}")
        break
    fi
done
