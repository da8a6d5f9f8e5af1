"""Parts of the benchmark `features`: workloads, drivers that run in processes of their own, and what is concluded."""
