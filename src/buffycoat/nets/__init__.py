"""Networks: devices, weights, training loops, batches, pretrained encoders."""
