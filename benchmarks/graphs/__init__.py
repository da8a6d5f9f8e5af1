"""The benchmarks of graphs: what a node costs, shadows and splits, the fraud decision beside the stack it replaces, overload."""
