# WMT16 English-Romanian, 610,000 pairs: Europarl v8 and SETIMES2; newsdev2016 and newstest2016.
. "$root/configs/scale/wmt.sh"

source_lang=en
target_lang=ro

originals_name=wmt16
# SPLIT URL MEMBER [md5:CHECKSUM], with the member in the syntax of scripts/corpora.py
corpora=(
    "train https://data.statmt.org/wmt16/translation-task/training-parallel-ep-v8.tgz training-parallel-ep-v8/europarl-v8.ro-en.{lang}"
    "train https://object.pouta.csc.fi/OPUS-SETIMES/v2/moses/en-ro.txt.zip SETIMES*.en-ro.{lang}"
    "valid https://data.statmt.org/wmt16/translation-task/dev.tgz dev/newsdev2016-enro-{side}.{lang}.sgm md5:4a3dc2760bb077f4308cce96b06e6af6"
    "test https://data.statmt.org/wmt16/translation-task/test.tgz test/newstest2016-enro-{side}.{lang}.sgm md5:3d809cd0c2c86adb2c67034d15c4e446"
)
# ROMANIAN=normalise or ROMANIAN=remove changes the diacritics in all splits, so BLEU is not comparable with keep, the
# default. The ratio of 9, as in Moses, keeps about 608,000 pairs, as in the papers.
tokenising=(--normalise punctuation --split-hyphens --max-tokens 250 --max-ratio 9 --romanian-diacritics "${ROMANIAN:-keep}")
bpe_operations=32000

student_training+=(--max-epoch 20)
teacher_training+=(--max-epoch 30 --label-smoothing 0.3 $(choose_by_bleu 5 1.2))
generation=(--beam 5 --lenpen 1.2 --max-tokens 8000)
seer_dropout=0.2 # in the paper on seer forcing
