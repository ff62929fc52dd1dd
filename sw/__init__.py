"""From a torch model to a memory image: quantizers, training, compiling and packing."""
