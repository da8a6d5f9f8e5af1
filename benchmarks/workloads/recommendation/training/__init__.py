"""How the towers and the ranker are learnt. The one folder of the workload that knows torch; what leaves it is arrays."""
