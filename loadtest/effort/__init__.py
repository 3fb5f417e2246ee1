"""The effort benchmark: what scheduling by effort saves on the real stack, beside round-robin and FIFO."""
