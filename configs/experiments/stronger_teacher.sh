# A teacher with 18 encoder layers and Admin initialisation (TIE-KD paper, section 6.3), for data sets the size of WMT.
# Stock fairseq has a pre-norm equivalent: --arch transformer_wmt_en_de_big_t2t --encoder-layers 18.
default_teacher=teacher_deep
system teacher_deep teacher --arch transformer_wmt_en_de_big_18l_admin
system plain plain
system word_kd_stronger word_kd
system tie_kd_stronger tie_kd
