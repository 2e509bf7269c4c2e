"""A trained network as an ONNX file: batch norms folded, grey values in, eight bits if asked."""
