"""What runs a model's graphs: ONNX Runtime (CPU, CUDA, TensorRT) and OpenVINO, behind one protocol."""
