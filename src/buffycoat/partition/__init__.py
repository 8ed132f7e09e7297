"""Which crops are noisy, blurred or badly lit: scores, and thresholds fitted on training rows."""
