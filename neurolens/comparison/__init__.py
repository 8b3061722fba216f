"""comparison: what `neurolens compare` asks of runs, neuron by neuron and beside the paper, and how it says it."""
