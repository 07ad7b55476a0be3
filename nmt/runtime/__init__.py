"""The process: device, threads, memory, signals, streams, and the ranks of a distributed training."""
