"""SS-RNN: distributed pretraining of recurrent language models without backpropagation through time."""

__version__ = "0.1.0"
