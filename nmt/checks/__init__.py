"""What may be wrong with the data of a configuration, found before a training spends hours on them."""
