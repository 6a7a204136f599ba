"""Source runtimes as references: what ONNX Runtime, LiteRT, TensorFlow and Keras compute from a file."""
