"""What a trained model attends to, as numbers and as pictures."""
