"""What libraries import only because of how the reached code uses them."""
