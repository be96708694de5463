# A teacher with 6+6 layers, and students with 2+2 layers of the same width that also learn from its hidden layers (CKD,
# Wu et al., 2020, table 1). RKD is word_kd with a small weight.
default_teacher=teacher_6_layers
shallow=(--encoder-layers 2 --decoder-layers 2)
system teacher_6_layers plain --encoder-layers 6 --decoder-layers 6
system plain_2_layers plain "${shallow[@]}"
for system in rkd:word_kd pkd:ckd rc:ckd oc:ckd sc:ckd cc:ckd; do
    layers=(--ckd-layers "${system%:*}")
    [ "$system" != rkd:word_kd ] || layers=(--kd-alpha 0.1)
    system "${system%:*}_2_layers" "${system#*:}" "${shallow[@]}" "${layers[@]}"
done
