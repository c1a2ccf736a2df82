"""Weights of other people's code for the same network, whose names nobody here knows.

The authors announced their weights; the day they appear, this package reads them. A `.pth` comes with names of its own:

1. `vocabulary` reads what a name says of a convolution, `matching` finds which of theirs is which of ours by shape, by
   that, and by order in the file, and says what it could not decide.
2. Where the other code is at hand, `user_module` builds its network and `activations` settles what is left by running
   both: tensors that compute the same are the same.
3. `patterns` writes the pairs down as a names file that people can read and mend, `renaming` reads it.
4. `tracing` runs both networks convolution by convolution and says where they first differ.

`convert_weights.py` has a flag for each step; docs/interop.md is the tour.
"""
