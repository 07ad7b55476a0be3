"""From data to a configuration, for ``nmt init``.

material
    Reads the data: number of pairs, lengths, characters, and a random sample.
measure
    Trains a few real batches of the sample in a temporary folder, for the pace and the memory.
choose
    Chooses the settings from :mod:`nmt.config.recipes`, the material, the device and the time.
written
    Writes the settings as a YAML file with comments.
"""
