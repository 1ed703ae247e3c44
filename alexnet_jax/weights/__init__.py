"""Weight files of other programs: reading, converting to and from our parameters, writing."""
