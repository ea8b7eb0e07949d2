"""The commands of stage one, one file each; ``cli.py`` names them."""
