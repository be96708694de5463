# IWSLT14 German-English, 160,000 pairs of TED talks, in lower case, prepared as in fairseq's example: every 23rd pair is
# used for validation, and the test set combines five older development and test sets.
. "$root/configs/models.sh"
. "$root/configs/scale/shared.sh"

source_lang=de
target_lang=en

originals_name=iwslt14
iwslt14_url=https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz
# SPLIT URL MEMBER [md5:CHECKSUM], with the member in the syntax of scripts/corpora.py
corpora=(
    "train $iwslt14_url de-en/train.tags.de-en.{lang}"
    "test $iwslt14_url de-en/IWSLT14.TED.dev2010.de-en.{lang}.xml"
    "test $iwslt14_url de-en/IWSLT14.TEDX.dev2012.de-en.{lang}.xml"
    "test $iwslt14_url de-en/IWSLT14.TED.tst2010.de-en.{lang}.xml"
    "test $iwslt14_url de-en/IWSLT14.TED.tst2011.de-en.{lang}.xml"
    "test $iwslt14_url de-en/IWSLT14.TED.tst2012.de-en.{lang}.xml"
)
tokenising=(--normalise apostrophes --lowercase --max-tokens 175 --max-ratio 1.5 --hold-out 23)
bpe_operations=10000

# The teacher is the model of fairseq's example; excluding embeddings, the student has an eighth of its parameters.
training+=(--weight-decay 0.0001 --warmup-updates 4000 --warmup-init-lr 1e-7 --keep-last-epochs 5 --log-interval 100)
teacher_model=($(transformer 6 6 512 1024 4))
teacher_training=(--max-update 50000 --lr 0.0005 --dropout 0.3 $(choose_by_bleu 5 1))
student_model=($(transformer 3 3 256 512 4))
student_training=(--max-update 50000 --lr 0.001 --dropout 0.1)
max_tokens=4096
effective_tokens=4096
average=(--last-epochs 5)
generation=(--beam 5 --lenpen 1 --max-tokens 8000)
remove_subwords=(--remove-bpe subword_nmt --tokenizer moses)
tokenised_bleu=yes
