# A teacher with 18 encoder layers (TIE-KD paper, section 6.3), for data sets of WMT's size: with Admin initialisation as
# in the paper, and with pre-norm layers, which stock fairseq has.
system teacher_deep teacher --arch transformer_wmt_en_de_big_18l_admin
system teacher_deep_pre_norm teacher --arch transformer_wmt_en_de_big_t2t --encoder-layers 18
system plain plain
teacher=teacher_deep system word_kd_stronger word_kd
teacher=teacher_deep system tie_kd_stronger tie_kd
