"""The typed configuration: the only home of a default.

The key ``train.max_steps`` of a YAML file stands in the module ``train``, and so on for ``data``, ``tokenizer``,
``model``, ``search`` and ``evaluation``; ``schedule`` has ``train.schedule``. The other modules:

base
    :class:`~nmt.config.base.Section`, the types that sections share, and the mark of a key that may differ on resume.
experiment
    :class:`~nmt.config.experiment.Config`, the whole of an experiment, with the former values of changed defaults.
limits
    The numbers of a search that the corpus and the device decide.
load
    YAML files and ``--set`` overrides to a :class:`~nmt.config.experiment.Config`.
explain
    One line for each mistake: its place, the value found, what is allowed, and the nearest valid key or value.
compare
    Which settings of a run must stay the same, and which of them differ.
"""
