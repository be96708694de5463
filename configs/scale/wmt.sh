# Training on WMT as in the TIE-KD paper (Zhang et al., 2023, tables 9 and 10): base student and big teacher, post-norm.
. "$root/configs/scale/shared.sh"
training+=(
    --share-all-embeddings --attention-dropout 0.1 --activation-dropout 0.1
    --warmup-updates 4000 --warmup-init-lr 1e-7
    --keep-last-epochs 5
    --save-interval-updates 5000 --keep-interval-updates 1  # limits what an interrupted training loses
    --log-interval 100
)
no_dropout=(--dropout 0 --attention-dropout 0 --activation-dropout 0)
student_model=(--arch transformer)
student_training=(--dropout 0.1 --lr 0.0007)
teacher_model=(--arch transformer_vaswani_wmt_en_de_big)
teacher_training=(--dropout 0.3 --lr 0.0005)
max_tokens=4096
effective_tokens=32768  # 4 GPUs with 4,096 tokens each, gradients accumulated over 2 batches
average=(--last-epochs 5)  # the checkpoints to average before a student is evaluated
remove_subwords=(--remove-bpe subword_nmt --tokenizer moses)
tokenised_bleu=yes      # as reported in the papers
