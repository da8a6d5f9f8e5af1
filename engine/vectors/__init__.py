"""Vector collections: live, durable, filtered and hybrid search over FAISS. It knows no network and no feature views."""
