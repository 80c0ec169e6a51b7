"""The CUDA side: drivers, kernels, memory, and an estimator that never brings a heatmap back."""
