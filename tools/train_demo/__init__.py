"""How the demo checkpoint was made. Not part of the package."""
