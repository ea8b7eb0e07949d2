"""The commands of stage two, one file each; ``cli.py`` names them."""
