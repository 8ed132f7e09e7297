"""Which crops are noisy: scores of noise, blur and light, and a threshold fitted on training rows."""
