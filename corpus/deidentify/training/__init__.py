"""How the shipped tagger was made: data, synthetic sentences, training, quantization."""
