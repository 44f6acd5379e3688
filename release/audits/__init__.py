"""What a model gives away and whether it stigmatises: one small module per audit."""
