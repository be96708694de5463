# Multi30k with another vocabulary, whose teacher shows that vocabularies can differ (see docs/other-vocabularies.md).
. "$root/configs/data/multi30k.sh"

vocabulary_size=7800
subword_algorithm=unigram
