"""A linter for quantized ONNX graphs: what a target refuses, runs slowly or computes inexactly, why, and the mend."""
