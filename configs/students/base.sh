# Bergamot's base: 43.7 million parameters with 32,000 symbols.
student_model=(--arch transformer_student_base --share-all-embeddings)
