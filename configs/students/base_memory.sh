# Bergamot's base-memory: 32.4 million parameters with 32,000 symbols.
student_model=(--arch transformer_student_base_memory --share-all-embeddings)
